"""Dry runs, and whether what follows agrees with them."""

from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import rule

from controller.core.refusals import RefusalError
from releasehand.model import BatchRollbackParams, DeployParams, OperationKind, Outlook, Verdict
from tests.simulation.fleet import ACTOR
from tests.simulation.host import SERVICE, Host, digest_of, url_of
from tests.simulation.run import FleetRun, hold, kinds, some_instances, timeouts

RESULTS: Final = {
    Outlook.ALREADY_ACTIVE: {"already_active"},
    Outlook.FROM_DISK: {"kept"},
    Outlook.DOWNLOAD: {"downloaded", "already_active"},  # what was downloaded may turn out to be active
}
"""How a task may complete for which a dry run has said that."""


@dataclass
class Forecast:
    """What was told of an instance, and in which life of its agent."""

    instance_id: str
    outcome: Outlook
    boots: int


class Forecasts(FleetRun):
    """Forecasts are kept by task until it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.forecasts: dict[int, Forecast] = {}
        self.changed_by_hand: set[str] = set()

    @rule(
        names=some_instances,
        kind=kinds,
        back=st.integers(0, 4),
        digest=st.booleans(),
        timeout_s=timeouts,
        force=st.booleans(),
    )
    def try_and_run(
        self, names: list[str], kind: str, back: int, digest: bool, timeout_s: int, force: bool
    ) -> None:
        """A dry run, then the same call: a new version, an old one again, or a rollback."""
        self.number += 1
        params: DeployParams | BatchRollbackParams
        if force:
            target = self.asked[-min(back, len(self.asked))].version if back and self.asked else "previous"
            params = BatchRollbackParams(
                service=SERVICE, instances=names, target_version=target, force=digest, timeout=timeout_s
            )
        else:
            version = f"v{self.number}-{kind}"
            if back and self.asked:
                version = self.asked[-min(back, len(self.asked))].version
            params = DeployParams(
                service=SERVICE,
                version=version,
                instances=names,
                package_url=url_of(version),
                package_sha256=digest_of(version) if digest else "",
                deploy_id=f"t{self.number}",
                timeout=timeout_s,
            )
        self.run(self._try_and_run(params))

    async def _try_and_run(self, params: DeployParams | BatchRollbackParams) -> None:
        before = self._standing(params.instances)
        refused: RefusalError | None = None
        try:
            told = await self.fleet.call(lambda store: store.foresee(params, caller=ACTOR.name))
        except RefusalError:
            told = None
        accepted = None
        try:
            accepted = await self._start(params)
        except RefusalError as exc:
            refused = exc
        name, ids, repeated = accepted or ("", [], False)
        if accepted:
            kind = OperationKind.DEPLOYMENT if isinstance(params, DeployParams) else OperationKind.ROLLBACK
            self.promise(kind, name, params.instances, ids)
        if told is None or not (accepted or refused) or before != self._standing(params.instances, name):
            return  # there was no answer, or something has happened in between
        self.tally["dry runs"] += 1
        verdict = Verdict.REFUSED if refused else Verdict.REPEATS if repeated else Verdict.STARTS
        if told.verdict != verdict:
            hold([f"{params} was told {told.verdict} ({told.reason}), and it was {verdict}: {refused}"])
        if verdict is Verdict.STARTS:
            tasks = self._tasks_of(name)
            for one in told.instances:
                task, host = tasks[one.instance_id], self.fleet.owner_of(one.instance_id)
                if one.target_version != task["target_version"]:
                    hold([f"{one} was told, and {dict(task)} was accepted"])
                if self._is_as_recorded(one.instance_id, host):
                    self.forecasts[task["id"]] = Forecast(one.instance_id, one.outcome, host.boots)

    async def _start(self, params: DeployParams | BatchRollbackParams) -> tuple[str, list[int], bool] | None:
        """The operation, its tasks and whether it was known; None if there was no answer."""
        if isinstance(params, DeployParams):
            deployed = await self.fleet.call(lambda store: store.accept_deployment(params, actor=ACTOR))
            return (params.deploy_id, deployed.task_ids, deployed.repeated) if deployed else None
        rolled = await self.fleet.call(
            lambda store: store.accept_batch_rollback(params, actor=ACTOR, idempotency_key=None)
        )
        return (rolled.result.rollback_id, rolled.task_ids, rolled.repeated) if rolled else None

    def _standing(self, names: list[str], started: str = "") -> Any:
        """All that a dry run looks at, and the place in the log; without what `started` has changed."""
        marks = ",".join("?" * len(names))
        rows = self.fleet.query(
            "SELECT instance_id, i.agent_id, active_release, active_version, releases, state, broken,"  # noqa: S608
            " unknown_task, retired_at, presence FROM instance i JOIN agent a ON a.agent_id = i.agent_id"
            f" WHERE instance_id IN ({marks})",
            *names,
        )
        held = self.fleet.query(
            f"SELECT id FROM task WHERE instance_id IN ({marks})"  # noqa: S608
            " AND status IN ('pending', 'in_progress') AND superseded_by IS NULL",
            *names,
        )
        if started:
            mine = {row["id"] for row in self._tasks_of(started).values()}
            superseded = self.fleet.query(
                f"SELECT id FROM task WHERE superseded_by IN ({','.join('?' * len(mine))})",  # noqa: S608
                *mine,
            )
            open_before = {row["id"] for row in [*held, *superseded]} - mine
        else:
            open_before = {row["id"] for row in held}
        return [tuple(row) for row in rows], open_before

    def _tasks_of(self, name: str) -> dict[str, Any]:
        rows = self.fleet.query("SELECT * FROM task WHERE operation_id = ?", name)
        return {row["instance_id"]: row for row in rows}

    def _is_as_recorded(self, name: str, host: Host) -> bool:
        """Nobody is at work there, and the controller knows what its host has."""
        [row] = self.fleet.query("SELECT * FROM instance WHERE instance_id = ?", name)
        open_tasks = self.fleet.query(
            "SELECT id FROM task WHERE instance_id = ? AND status IN ('pending', 'in_progress')", name
        )
        return (
            name not in self.changed_by_hand
            and row["agent_id"] == host.agent_id
            and row["retired_at"] is None
            and len(open_tasks) == 1
            and row["unknown_task"] is None
            and row["active_version"] == host.active_on_disk(name)
        )

    def find_wrong_forecasts(self) -> list[str]:
        """Tasks that ended in another way than was told, where nothing else happened to their instance."""
        found = []
        for number in list(self.forecasts):
            [task] = self.fleet.query("SELECT * FROM task WHERE id = ?", number)
            if task["status"] in {"pending", "in_progress"}:
                continue
            one = self.forecasts.pop(number)
            host = self.fleet.owner_of(one.instance_id)
            untouched = host.boots == one.boots and one.instance_id not in self.changed_by_hand
            if not untouched or task["attempt"] != 1 or task["agent_id"] != host.agent_id:
                continue
            self.tally["dry runs that were compared with their ends"] += 1
            if task["status"] == "completed" and task["result"] not in RESULTS.get(one.outcome, set()):
                found.append(f"{one} was told and it was {task['result']}: {dict(task)}")
            if (task["error_code"] == "no_source") and one.outcome is not Outlook.IMPOSSIBLE:
                found.append(f"{one} was told and there was no source: {dict(task)}")
        return found
