"""Instances that are retired and that change hands, by a call or by their hosts' configurations alone."""

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import rule

from controller.core.refusals import InstanceBusyError, UnknownAgentError, UnknownInstanceError
from tests.simulation.fleet import ACTOR
from tests.simulation.run import HOSTS, INSTANCES, FleetRun, hold

instances = st.sampled_from(INSTANCES)
WAYS: Final = ("by a call", "by a call", "by configuration")


class Owners(FleetRun):
    """`retired_by_hand` are those that their hosts list all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.retired_by_hand: set[str] = set()

    @rule(instance=instances)
    def retire(self, instance: str) -> None:
        self.run(self._retire(instance))

    async def _retire(self, instance: str) -> None:
        """What an answered call has done stands at once, and a second one answers the same."""
        self.retired_by_hand.add(instance)
        answers = []
        for _ in range(2):
            try:
                answer = await self.fleet.call(lambda store: store.retire_instance(instance, actor=ACTOR))
            except UnknownInstanceError:
                return
            if answer is None:
                return
            answers.append(answer[0])
            self.fleet.controller.tell(answer[1])
        self.tally["instances retired by hand"] += 1
        again = self._row(instance)["retired_at"] is None  # its host has said hello in between
        held = self.fleet.query(
            "SELECT id FROM task WHERE instance_id = ? AND status IN ('pending', 'in_progress')", instance
        )
        if not again:
            hold([f"{instance} is retired and has open tasks {[row['id'] for row in held]}"] if held else [])
            hold([f"retiring {instance} was answered {answers}"] if answers[0] != answers[1] else [])

    @rule(instance=instances, to=st.sampled_from(tuple(HOSTS)), way=st.sampled_from(WAYS))
    def hand_over(self, instance: str, to: str, way: str) -> None:
        owner = self.fleet.owner_of(instance)
        if owner.agent_id != to and len(owner.instances) > 1:
            self.run(self._hand_over(instance, to, way))

    async def _hand_over(self, instance: str, to: str, way: str) -> None:
        if way == "by a call" and not await self._move(instance, to):
            return
        await self.fleet.hand_over(instance, to)
        self.tally[f"instances handed over {way}"] += 1

    async def _move(self, instance: str, to: str) -> bool:
        """False if it was refused, or if there was no answer and nothing was recorded."""
        try:
            answer = await self.fleet.call(lambda store: store.move_instance(instance, to, actor=ACTOR))
        except (InstanceBusyError, UnknownInstanceError, UnknownAgentError):
            return False
        if answer is not None:
            self.fleet.controller.renew(answer[1], answer[0].agent_id)
        row = self._row(instance)
        if answer and row["agent_id"] != to:
            hold([f"{instance} was moved to {to} and is {row['agent_id']}'s"])
        return bool(row["agent_id"] == to)

    def _row(self, instance: str) -> dict[str, object]:
        [row] = self.fleet.query("SELECT * FROM instance WHERE instance_id = ?", instance)
        return dict(row)
