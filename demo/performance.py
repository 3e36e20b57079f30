"""One performance of the demo: set up, tell the story, keep the result if wanted, take it all down."""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from demo.installation import Installation, install
from demo.layout import Layout, plan_layout
from demo.operations import Operations
from demo.packages import Package, build_package
from demo.screen import Screen
from demo.story import PACKAGES, Story
from demo.witness import Witness
from releasehand import Client
from releasehand.cli.terminal import duration
from shared.clock import Clock

_BIN: Final = Path(sys.executable).parent


async def perform(folder: Path, screen: Screen, clock: Clock, *, keep: bool) -> None:
    """Return when all went as told and no process is left. With `keep` it goes on until it is cancelled.

    Raises DemoError, ReleasehandError or OSError, alone or in a group; no process is left then either."""
    layout = plan_layout(folder)
    screen.say("releasehand demo", "bold")
    screen.tell(_OPENING)
    screen.say()
    async with AsyncExitStack() as stack:
        with screen.step("Start a controller, a package origin and three agents", numbered=False) as step:
            step.note("each is a process of its own")
            installation = await stack.enter_async_context(install(layout, clock))
            digests = await asyncio.to_thread(_build_packages, layout)
            processes = len(installation.daemons)
            step.done(f"{processes} processes; all they write is below {folder}")
        client = await stack.enter_async_context(Client(layout.api_url, layout.api_token))
        witness = await stack.enter_async_context(Witness(layout.places))
        started = clock.monotonic()
        story = Story(installation, Operations(client, layout, digests, clock), witness, screen, clock)
        await story.tell()
        for title, table in story.tables.items():
            screen.headline(title)
            screen.show(table)
        screen.headline(f"All of it went as told, in {duration(clock.monotonic() - started)}.")
        if keep:
            await _stay(installation, screen)


def _build_packages(layout: Layout) -> dict[Package, str]:
    return {package: build_package(package, layout.packages) for package in PACKAGES}


async def _stay(installation: Installation, screen: Screen) -> None:
    layout = installation.layout
    await installation.start_origin()
    screen.say(_KEPT.format(layout=layout, bin=_BIN))
    await asyncio.Event().wait()


_OPENING: Final = """\
Two services on three hosts, released by real daemons. After each step every service is asked at its own \
port which version it is."""
_KEPT: Final = """
Everything runs on, the package origin too, until you press Ctrl-C.

  controller   {layout.api_url}
  what it can  {layout.api_url}/openapi.json
  token        {layout.api_token}
  packages     {layout.origin_url}/packages/SERVICE-VERSION.tar.gz
  files        {layout.folder}
  logs         {layout.logs}

In another terminal:

  export RELEASEHAND_URL={layout.api_url}
  export RELEASEHAND_TOKEN={layout.api_token}
  {bin}/releasehand versions web
  {bin}/releasehand deploy web v2 --all-instances --wait \\
      --url {layout.origin_url}/packages/web-v2.tar.gz
"""
