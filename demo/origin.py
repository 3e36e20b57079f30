"""The package origin: an HTTPS server process, `python -m demo.origin FOLDER CERTIFICATES PORT`.

`/packages/NAME` comes as fast as it can, `/slow/NAME` at SLOW_BYTES_S, so that there is time to cancel."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from aiohttp import web

from demo.layout import HERE
from shared.clock import SystemClock
from shared.tls import server_context

SLOW_BYTES_S: Final = 256 * 1024
_PIECES_PER_S: Final = 16


class Origin:
    """Serves the files of one folder, in two speeds."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._clock = folder, SystemClock()

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application()
        application.router.add_get("/packages/{name}", self._send)
        application.router.add_get("/slow/{name}", self._trickle)
        return application

    async def _send(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(self._find(request))

    async def _trickle(self, request: web.Request) -> web.StreamResponse:
        content = self._find(request).read_bytes()
        response = web.StreamResponse()
        response.content_length = len(content)
        await response.prepare(request)
        piece_bytes = SLOW_BYTES_S // _PIECES_PER_S
        with suppress(ConnectionError):  # who cancels a download hangs up; that is nothing to log
            for start in range(0, len(content), piece_bytes):
                await response.write(content[start : start + piece_bytes])
                await self._clock.sleep(1 / _PIECES_PER_S)
        return response

    def _find(self, request: web.Request) -> Path:
        path = self._folder / request.match_info["name"]
        if path.parent != self._folder or not path.is_file():
            raise web.HTTPNotFound
        return path


def main(folder: str, certificates: str, port: str) -> None:
    """Serve until SIGTERM."""
    context = server_context(Path(certificates, "hub.pem"), Path(certificates, "hub.key"))
    web.run_app(
        Origin(Path(folder)).application(),
        host=HERE,
        port=int(port),
        ssl_context=context,
        access_log=None,
        shutdown_timeout=0.5,
        loop=asyncio.new_event_loop(),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
