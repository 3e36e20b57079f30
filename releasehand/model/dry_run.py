"""What a call that starts work would do, told without doing it."""

from .fields import Answer, Empty
from .status import ForecastCode, Outlook, Verdict, WaitingFor


class InstanceForecast(Answer):
    """What would happen to one instance as things stand. `code` and `reason` are there exactly when it is
    `impossible`."""

    instance_id: str
    outcome: Outlook
    target_version: str
    waiting_for: WaitingFor | Empty = ""
    code: ForecastCode | Empty = ""
    reason: str = ""


class DryRunResult(Answer):
    """`instances` is empty for a call that repeats one: nothing would happen. `outcomes` counts them."""

    verdict: Verdict
    reason: str
    service: str
    target_version: str
    operation_id: str = ""
    total_instances: int
    outcomes: dict[str, int]
    instances: list[InstanceForecast]
