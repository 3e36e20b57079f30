"""What a host fetches to become an agent: a script and packages. Without token, for neither holds a secret;
outside of the envelope, for shells read them."""

import asyncio
from io import BufferedReader
from typing import Final

from aiohttp import web

from controller.core.allowance import peer_group
from shared.logs import get_log

from .deps import ApiDeps
from .endpoint import AioHandler
from .middleware import not_found, standard_headers
from .rates import Rates

SCRIPT_PATH: Final = "/install.sh"
PACKAGE_PATH: Final = "/install/{file}"
PACKAGE_TYPE: Final = "application/vnd.debian.binary-package"
CHUNK_BYTES: Final = 128 * 1024
"""A host that does not take so much within `slow_reader_s`, or the whole within `download_s`, is cut off: it
holds a place of another."""

log = get_log(__name__)


def make_install_handlers(deps: ApiDeps, rates: Rates) -> dict[str, AioHandler]:
    """By their paths. They raise ApiError."""

    async def send_script(request: web.Request) -> web.Response:
        rates.count_peer(request.remote or "")
        # text/plain: a browser shows it, and who reads first what he runs as root is right
        return web.Response(text=await deps.installer.write_script(), content_type="text/plain")

    async def send_package(request: web.Request) -> web.StreamResponse:
        peer = request.remote or ""
        rates.count_peer(peer)
        with deps.downloads.take(peer_group(peer)):
            found = await deps.installer.folder.open(request.match_info["file"])
            if found is None:
                raise not_found(request)
            content, size_bytes = found
            try:
                return await _send(request, content, size_bytes, deps.slow_reader_s, deps.download_s)
            finally:
                content.close()

    return {SCRIPT_PATH: send_script, PACKAGE_PATH: send_package}


async def _send(
    request: web.Request, content: BufferedReader, size_bytes: int, chunk_s: float, whole_s: float
) -> web.StreamResponse:
    """An answer that has begun and cannot go on is cut off: the host sees that it is not whole.

    A chunk may take `chunk_s`, all of them `whole_s`."""
    response = web.StreamResponse(headers=standard_headers(request))
    response.content_type, response.content_length = PACKAGE_TYPE, size_bytes
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    left, whole = size_bytes, asyncio.timeout(whole_s)
    try:
        async with whole:
            while left:
                chunk = await asyncio.to_thread(content.read, min(CHUNK_BYTES, left))
                if not chunk:
                    raise EOFError("it became shorter")
                async with asyncio.timeout(chunk_s):
                    await response.write(chunk)
                left -= len(chunk)
    except ConnectionError:
        pass  # the host went away
    except (OSError, EOFError) as exc:  # TimeoutError is one
        too_slow = f"it takes more than {whole_s:g} s" if whole.expired() else "it takes nothing"
        reason = too_slow if isinstance(exc, TimeoutError) else str(exc)
        log.warning("package was not sent to its end", path=request.path, left_bytes=left, reason=reason)
        if request.transport is not None:
            request.transport.abort()
    return response
