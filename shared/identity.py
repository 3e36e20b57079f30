"""How an agent is named in its certificate: by a URI, which both daemons read and nothing else decides."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from pydantic import TypeAdapter, ValidationError

from releasehand.model.fields import Name

BACKDATED: Final = timedelta(hours=1)
"""Certificates begin so long before they are given out: the clocks of hosts are late sometimes."""
_PREFIX: Final = "releasehand://agent/"
_NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)


def agent_uri(agent_id: str) -> str:
    """The URI that names agent `agent_id` in the subject's alternative names."""
    return f"{_PREFIX}{agent_id}"


def find_agent_id(uris: Iterable[str]) -> str:
    """Whose certificate it is that has these URIs; "" unless they are exactly one agent's."""
    [uri, *more] = list(uris) or [""]
    if more or not uri.startswith(_PREFIX):
        return ""
    try:
        return _NAME.validate_python(uri.removeprefix(_PREFIX))
    except ValidationError:
        return ""
