"""Somebody's shell, in which the command line asks a real HTTP server."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp.test_utils import TestServer
from typer.testing import CliRunner, Result

from releasehand.cli.__main__ import app
from tests.fakes.api import TOKEN, FakeApi

PACKAGE: Final = ("--url", "https://p.example/v2.tar.gz")
HOSTILE: Final = "cannot \x1b[31mread\x1b]0;title\x07\r\nnext\u202egnp [bold]x[/bold]"
"""What a host may have written."""


@dataclass
class Shell:
    api: FakeApi
    url: str

    @property
    def env(self) -> dict[str, str]:
        return {"RELEASEHAND_URL": self.url, "RELEASEHAND_TOKEN": TOKEN, "RELEASEHAND_CA_FILE": ""}

    async def run(self, *words: str, charset: str = "utf-8", **env: str) -> Result:
        return await asyncio.to_thread(CliRunner(charset).invoke, app, words, env={**self.env, **env})

    async def start(self, *words: str, stdout: int = subprocess.PIPE) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *("env", "--default-signal=INT"),  # what runs in the background may have been told to ignore it
            *(sys.executable, "-m", "releasehand.cli", *words),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, **self.env, "TERM": "xterm-256color"},
        )


@asynccontextmanager
async def open_shell() -> AsyncIterator[Shell]:
    api = FakeApi()
    async with TestServer(api.app()) as server:
        yield Shell(api, str(server.make_url("")))
