"""What really runs: asked of the services' own ports and read from disk, past controller and agents."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp

from demo.errors import DifferenceError
from demo.layout import Place

ANSWER_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True)
class Seen:
    """One answer of a service."""

    version: str
    pid: int


class Witness:
    """Asks each service once: there is no second try, so an answer is one that any client would have got."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._places = {place.instance: place for place in places}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, instances: Iterable[str]) -> dict[str, Seen]:
        """Ask these services side by side. Raises DifferenceError when one gives no proper answer."""
        async with asyncio.TaskGroup() as group:
            asked = {name: group.create_task(self._ask(self._places[name])) for name in instances}
        answers = {name: task.result() for name, task in asked.items()}
        for name, answer in answers.items():
            if isinstance(answer, str):
                raise DifferenceError(f"{name} at {self._places[name].url}", "an answer", answer)
        return {name: answer for name, answer in answers.items() if isinstance(answer, Seen)}

    async def expect(self, versions: Mapping[str, str]) -> None:
        """Raises DifferenceError at the first service that does not answer with its version."""
        for name, seen in (await self.ask(versions)).items():
            if seen.version != versions[name]:
                raise DifferenceError(f"{name} at {self._places[name].url}", versions[name], seen.version)

    def traces(self, instances: Iterable[str]) -> dict[str, str]:
        """Everything on disk that belongs to these instances: path to size, or to the target of a link.

        The services' own logs are left out; what their agent keeps of downloads is in."""
        found: dict[str, str] = {}
        for name in instances:
            place = self._places[name]
            for top in (place.root, place.root.parents[1] / "state" / "packages"):
                for path in top.rglob("*"):
                    if path.is_symlink():
                        found[str(path)] = f"-> {path.readlink()}"
                    elif path.name != "service.log":
                        found[str(path)] = "folder" if path.is_dir() else f"{path.stat().st_size} bytes"
        return found

    async def _ask(self, place: Place) -> Seen | str:
        """The answer, or why there is none."""
        assert self._session is not None, "use it as a context manager"
        try:
            async with self._session.get(place.url) as response:
                said = await response.json()
            if (said["service"], said["instance"]) != (place.service, place.instance):
                return f"another service: {said}"
            return Seen(said["version"], said["pid"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as exc:
            return f"none ({str(exc) or type(exc).__name__})"
