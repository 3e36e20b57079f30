"""What hub and sweeper write of agents and their links."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.enrolment import check_link
from releasehand.model import Presence
from shared.frames import Heartbeat, Hello

from . import agents, certificates, claims, tasks
from .transactions import Transactions


class Sessions(Transactions):
    """The newest session of an agent wins."""

    async def forget_presence(self) -> None:
        """At a controller's start: nobody is connected to it yet."""
        await self._write(agents.forget_presence, "start")

    async def greet(self, hello: Hello, serial: str, key_sha256: str) -> agents.Greeting:
        """Open a session for an agent, by its certificate with `serial` for this key. Durable on return.
        Raises EnrolmentRefusedError.

        The certificate is looked at in the same transaction: a revocation is before it, and refuses the
        session, or after it, and finds the session to close."""

        async def greet(conn: AsyncConnection, now: datetime) -> agents.Greeting:
            check_link(await certificates.find(conn, serial), hello.agent_id, key_sha256)
            return await agents.greet(conn, hello, now)

        return await self._write(greet, "greet")

    async def find_claimants(self, refused: Mapping[str, Collection[str]]) -> list[str]:
        """Of agents, each with instances that it was refused, those that would be given one of them now."""
        return await self._read(lambda conn: claims.find_claimants(conn, refused))

    async def observe(self, agent_id: str, epoch: int, heartbeat: Heartbeat) -> bool:
        """Record what a heartbeat says of its instances; False if it has to be told again later."""
        return await self._write(
            lambda conn, now: claims.observe(conn, agent_id, epoch, heartbeat, now), "observe"
        )

    async def write_live_state(
        self,
        *,
        heartbeats: Mapping[str, datetime],
        presence: Mapping[str, tuple[int, Presence]],
        progress: Sequence[tuple[int, int, int, int]],
    ) -> None:
        """Write what the links have seen since the last time: who was heard, who fell silent, how many
        bytes."""

        async def write(conn: AsyncConnection, now: datetime) -> None:
            await agents.heard(conn, heartbeats, now)
            await agents.judge(conn, presence, now)
            await tasks.set_bytes(conn, progress)

        await self._write(write, "seen")

    async def find_silent(self, before: datetime) -> dict[str, tuple[int, Presence]]:
        """Agents that nobody has heard since `before` and that are not recorded as offline yet."""
        return await self._read(lambda conn: agents.silent_since(conn, before))

    async def count_agents(self) -> dict[Presence, int]:
        """How many agents there are in each presence."""
        return await self._read(agents.count_by_presence)
