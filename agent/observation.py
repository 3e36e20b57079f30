"""What the agent sees of a running service: values that drivers return and checks compare."""

from dataclasses import dataclass

from releasehand.model.status import ServiceState


@dataclass(frozen=True)
class ProcessMark:
    """Tells one run of a service from the next: systemd's InvocationID, or "pid:starttime"."""

    identity: str


@dataclass(frozen=True)
class Observation:
    """One look at a service. `mark` is None when nothing runs; `detail` is for people."""

    state: ServiceState
    mark: ProcessMark | None
    detail: str
