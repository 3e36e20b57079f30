"""Which instances a command means, and requests built from what a person typed."""

# The client and the models are loaded when a command runs, not for its --help.

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from .complaint import CommandError
from .terminal import json_path

if TYPE_CHECKING:
    from releasehand.client import Client

PAGE: Final = 1_000
T = TypeVar("T")


def check_choice(instances: list[str] | None, all_instances: bool) -> None:
    """Raises CommandError unless exactly one of the two ways to name instances was used."""
    if bool(instances) == all_instances:
        raise CommandError("Which instances?", remedy="Name each with --instance ID, or use --all-instances.")


async def find_instances(client: "Client", service: str, instances: list[str] | None) -> list[str]:
    """The named instances, without doubles, or all that the service has, in the controller's order."""
    if instances:
        return list(dict.fromkeys(instances))
    found: dict[str, None] = {}
    offset = 0
    while True:
        page = await client.get_service_instances(service, limit=PAGE, offset=offset)
        found.update((instance.instance_id, None) for instance in page.instances)
        offset += len(page.instances)
        if not page.instances or offset >= page.total:
            break
    if not found:
        raise CommandError(f"The service {service} has no instances")
    return list(found)


def build(make: Callable[[], T]) -> T:
    """`make()`; what the models refuse becomes a complaint that names the field."""
    from pydantic import ValidationError

    try:
        return make()
    except ValidationError as exc:
        faults = exc.errors(include_url=False)
        why = tuple(
            f"{json_path(fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in faults[:10]
        )
        raise CommandError("The request is not valid", why) from exc
