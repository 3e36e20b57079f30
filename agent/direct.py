"""Connects to the address that it was given, and to no other."""

from websockets.asyncio.client import connect


class DirectConnect(connect):
    """Follows no redirect: what an agent shows and sends is for one address only."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc
