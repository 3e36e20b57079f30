"""A secret that must not be found again: in no file, no answer, no process."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

CANARY: Final = "canary-5f3e9ad1c7b24680"
"""Stands in the query of every package URL, in redirects of origins, and where a user would be."""
EVENT_STREAM: Final = "text/event-stream"


def with_secret(url: str, **more: str) -> str:
    """The URL as a storage service presigns it."""
    return "&".join([f"{url}?X-Expires=900", f"X-Signature={CANARY}", *(f"{k}={v}" for k, v in more.items())])


def find_in_files(folder: Path, text: str = CANARY) -> list[str]:
    """The files below `folder` that hold it, or another text, with what stands before; whatever kind they
    are. A file that goes meanwhile is passed over."""
    found = []
    for path in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink():
                found += [f"{path}: {place!r}" for place in find_in(path.read_bytes(), text)]
    return found


def find_in_processes(processes: Iterable[psutil.Process]) -> list[str]:
    """The processes that show it in their arguments or their environment."""
    found = []
    for process in processes:
        with suppress(psutil.Error):
            shown = "\n".join([*process.cmdline(), *process.environ().values()])
            found += [f"process {process.pid}: {place!r}" for place in find_in(shown.encode())]
    return found


def find_in(content: bytes, text: str = CANARY) -> Iterator[bytes]:
    """Each place that holds it, with what stands before."""
    at = content.find(text.encode())
    while at >= 0:
        yield content[max(0, at - 120) : at + len(text)]
        at = content.find(text.encode(), at + 1)


class Api:
    """Calls of the API whose answers are all kept, headers included, refusals too."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self.said: dict[str, str] = {}

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, accept: str = "application/json"
    ) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": accept}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, f"{self._url}{path}", json=body) as answer,
        ):
            text = await answer.text()
            self.said[f"{len(self.said)} {method} {path} {accept}"] = f"{answer.headers} {text}"
            return answer.status, text

    async def read_all(self, document: Mapping[str, Any], names: Mapping[str, Iterable[str]]) -> None:
        """Every GET that the OpenAPI document lists, with all `names` of each path's id; streams too."""
        for path, methods in document["paths"].items():
            if "get" not in methods:
                continue
            key = path.partition("{")[2].partition("}")[0]
            accepted = [
                kind for answer in methods["get"]["responses"].values() for kind in answer.get("content", {})
            ]
            for name in names[key] if key else [""]:
                for accept in {"application/json", *({EVENT_STREAM} & set(accepted))}:
                    await self.call("GET", path.replace(f"{{{key}}}", name), accept=accept)

    def find(self) -> list[str]:
        """The answers that hold it."""
        return [f"{call}: {text}" for call, text in self.said.items() if CANARY in text]
