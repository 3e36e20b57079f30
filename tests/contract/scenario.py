"""A story that brings operations, tasks and instances into every state, and what each function said."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from releasehand.model import FailureCode, Phase
from tests.contract.simulated import Copy, Course
from tests.contract.stage import Reply, Stage

SERVICE: Final = "user-service"
ORIGIN: Final = "https://packages.example.com/user-service"
WAIT: Final = "?wait=20s"


def make_fleet() -> dict[str, dict[str, Copy]]:
    """Two instances that keep an older release, one without any, and one whose host goes away."""
    return {
        "host-1": {
            "instance-1": Copy(SERVICE, "v1.2.2", ["v1.2.1", "v1.2.2"]),
            "instance-2": Copy(SERVICE, "v1.2.2", ["v1.2.1", "v1.2.2"]),
        },
        "host-2": {"instance-3": Copy(SERVICE)},
        "host-3": {"instance-4": Copy(SERVICE, "v1.2.2", ["v1.2.2"])},
    }


@dataclass
class Record:
    """By function: what was going on, and the `data` of the answer."""

    answers: dict[str, list[tuple[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def of(self, function: str, situation: str = "") -> Iterator[Any]:
        """The answers of a function, all or those of one situation."""
        return (data for said, data in self.answers[function] if situation in ("", said))


class Scenario:
    """Calls, and remembers each answer under the function's name and the situation."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.record = stage, Record()
        self.host = stage.agents["host-1"]

    def note(self, function: str, situation: str, reply: Reply) -> Any:
        self.record.answers[function].append((situation, reply.data))
        return reply.data

    def deploy(self, deploy_id: str, version: str, *instances: str, **more: Any) -> None:
        body = {
            "service": SERVICE,
            "version": version,
            "instances": list(instances),
            "package_url": f"{ORIGIN}/{version}.tar.gz",
            "deploy_id": deploy_id,
            **more,
        }
        self.note("ExecuteDeployment", deploy_id, self.stage.call("POST", "/v1/deployment", body))

    def roll_back_one(self, instance: str, version: str, **more: Any) -> str:
        body = {"instance_id": instance, "target_version": version, **more}
        reply = self.stage.call("POST", "/v1/rollback/instance", body)
        return str(self.note("RollbackInstance", version, reply)["rollback_id"])

    def roll_back(self, version: str, *instances: str, **more: Any) -> str:
        body = {"service": SERVICE, "target_version": version, "instances": list(instances), **more}
        reply = self.stage.call("POST", "/v1/rollback/batch", body)
        return str(self.note("RollbackBatch", version, reply)["rollback_id"])

    def look(self, kind: str, operation: str, situation: str, query: str = "") -> Any:
        function = f"Get{kind.capitalize()}Status"
        return self.note(function, situation, self.stage.call("GET", f"/v1/{kind}/{operation}{query}"))

    def cancel(self, kind: str, operation: str, situation: str) -> Any:
        reply = self.stage.call("POST", f"/v1/{kind}/{operation}/cancel")
        return self.note(f"Cancel{kind.capitalize()}", situation, reply)

    def hold(self, version: str, phase: Phase, *instances: str) -> None:
        """Wait until the attempts stand there."""
        assert self.host.courses[version].hold is phase
        for instance in instances:
            self.stage.run(self.host.wait_until_held(version, instance))

    def go_on(self, version: str) -> None:
        async def let_go() -> None:
            self.host.go_on(version)

        self.stage.run(let_go())

    def look_around(self, situation: str) -> None:
        """Every function that reads the fleet as it is."""
        call, note = self.stage.call, self.note
        for query in ("", "?include_stopped=true"):
            note(
                "GetServiceInstanceVersions", situation, call("GET", f"/v1/service/{SERVICE}/versions{query}")
            )
        for query in ("", "?status=running", "?status=error", "?limit=1&offset=1"):
            note("GetServiceInstances", situation, call("GET", f"/v1/service/{SERVICE}/instances{query}"))
        for instance in ("instance-1", "instance-2", "instance-3", "instance-4"):
            path = f"/v1/instance/{instance}/version-history"
            note("GetInstanceVersionHistory", situation, call("GET", path))
        note("GetSystemHealth", situation, call("GET", "/v1/system/health"))
        for period in ("1h", "24h", "7d", "30d"):
            note("GetSystemStats", situation, call("GET", f"/v1/system/stats?period={period}"))


def play(stage: Stage) -> Record:
    """Tell the whole story once."""
    act = Scenario(stage)
    courses = act.host.courses
    act.look_around("before anything")

    # an agent that is away: pending, then cancelled without ever being sent
    stage.run(stage.unlink("host-3"))
    act.deploy("deploy-away", "v1.2.3", "instance-4")
    act.look("deployment", "deploy-away", "pending")
    act.cancel("deployment", "deploy-away", "pending")
    act.look("deployment", "deploy-away", "cancelled", WAIT)
    rollback = act.roll_back_one("instance-4", "v1.2.1")
    act.look("rollback", rollback, "pending")
    act.cancel("rollback", rollback, "pending")
    act.look("rollback", rollback, "cancelled", WAIT)

    act.deploy("deploy-late", "v1.2.3", "instance-4", timeout=1)
    act.look("deployment", "deploy-late", "failed", WAIT)

    # good
    courses["v1.2.3"] = Course(hold=Phase.DOWNLOADING)
    act.deploy("deploy-good", "v1.2.3", "instance-1", "instance-2", timeout=300, retry_count=3)
    act.hold("v1.2.3", Phase.DOWNLOADING, "instance-1", "instance-2")
    act.look("deployment", "deploy-good", "in_progress")
    act.go_on("v1.2.3")
    act.look("deployment", "deploy-good", "completed", WAIT)
    act.deploy("deploy-good", "v1.2.3", "instance-1", "instance-2")
    act.look_around("after a deployment")

    # does not come up, goes back; one is broken by it
    courses["v1.3.0"] = Course(fail=FailureCode.CHECK_FAILED, at=Phase.CHECKING)
    act.deploy("deploy-bad", "v1.3.0", "instance-1", "instance-2")
    act.look("deployment", "deploy-bad", "failed", WAIT)
    courses["v1.3.1"] = Course(fail=FailureCode.REVERT_FAILED, at=Phase.CHECKING, reverts=False)
    act.deploy("deploy-worse", "v1.3.1", "instance-2")
    act.look("deployment", "deploy-worse", "failed", WAIT)
    act.look_around("with a broken instance")

    # cancelled on its way
    courses["v1.4.0"] = Course(hold=Phase.UNPACKING)
    act.deploy("deploy-regretted", "v1.4.0", "instance-1", "instance-2")
    act.hold("v1.4.0", Phase.UNPACKING, "instance-1", "instance-2")
    act.cancel("deployment", "deploy-regretted", "in_progress")
    act.look("deployment", "deploy-regretted", "cancelled", WAIT)
    act.cancel("deployment", "deploy-regretted", "repeated")

    # cancelled between two attempts
    courses["v1.5.0"] = Course(fail=FailureCode.DOWNLOAD_FAILED)
    act.deploy("deploy-unlucky", "v1.5.0", "instance-1", retry_count=10)
    stage.run(act.host.wait_until_failed("v1.5.0"))
    act.look("deployment", "deploy-unlucky", "in_progress")
    act.cancel("deployment", "deploy-unlucky", "between two attempts")
    act.look("deployment", "deploy-unlucky", "cancelled", WAIT)

    # one instance back, and cancelled on its way
    courses["v1.2.2"] = Course(hold=Phase.STAGED)
    rollback = act.roll_back_one("instance-1", "v1.2.2", package_url="", force=False, timeout=0)
    act.hold("v1.2.2", Phase.STAGED, "instance-1")
    act.look("rollback", rollback, "in_progress")
    act.go_on("v1.2.2")
    act.look("rollback", rollback, "completed", WAIT)
    courses["v1.2.1"] = Course(hold=Phase.STAGED)
    rollback = act.roll_back_one("instance-1", "v1.2.1")
    act.hold("v1.2.1", Phase.STAGED, "instance-1")
    act.cancel("rollback", rollback, "in_progress")
    act.look("rollback", rollback, "cancelled", WAIT)
    del courses["v1.2.1"]

    # several back: good, by force over an open one, to the previous one each, and without a source
    courses["v1.2.3"] = Course(hold=Phase.STAGED)
    rollback = act.roll_back("v1.2.3", "instance-1", "instance-2", package_url=f"{ORIGIN}/v1.2.3.tar.gz")
    act.hold("v1.2.3", Phase.STAGED, "instance-1")  # the other one runs it already
    act.look("rollback", rollback, "in_progress")
    forced = act.roll_back("v1.2.1", "instance-1", "instance-2", force=True, timeout=60)
    act.look("rollback", forced, "completed", WAIT)
    act.look("rollback", rollback, "cancelled", WAIT)
    del courses["v1.2.3"]
    act.look("rollback", act.roll_back("previous", "instance-1", "instance-2"), "completed", WAIT)
    act.look("rollback", act.roll_back("v0.0.9", "instance-1", "instance-3"), "failed", WAIT)

    # somebody changes a host by hand
    stage.run(stage.unlink("host-1"))
    act.host.copies["instance-1"].active = "v1.2.1"
    stage.run(stage.link("host-1"))
    act.look_around("after a change by hand")
    return act.record
