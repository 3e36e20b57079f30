"""What a host says to the controller beside its link, on three paths of the agents' port: `/join`, where it
shows a join token, `/renew`, where it shows a certificate that has expired, and `/leave`, where TLS has seen
the one in force. One question, one answer (docs/architecture.md).

The authority's certificate is at `/ca.pem` for everybody; a join token tells whether it is the right
one."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from releasehand.model.fields import check_name

from .frames import MAX_NUMBER, Frame, Pem, Refuse, decode_as

AUTHORITY_PATH: Final = "/ca.pem"
JOIN_PATH: Final = "/join"
RENEW_PATH: Final = "/renew"
LEAVE_PATH: Final = "/leave"
MAX_QUESTION_BYTES: Final = 65_536
ANSWER_WITHIN_S: Final = 10.0


def _check_optional_name(value: str) -> str:
    return value and check_name(value)


class Join(Frame):
    """`csr` is a request (PKCS #10, PEM) signed by the key that the certificate is to be for."""

    type: Literal["join"] = "join"
    secret: str = Field(min_length=1, max_length=64, repr=False)
    csr: Pem
    agent_id: Annotated[str, AfterValidator(_check_optional_name)] = ""  # "" leaves it to the token


class RenewExpired(Frame):
    """`certificate` has expired; `csr` is a request by its key."""

    type: Literal["renew_expired"] = "renew_expired"
    certificate: Pem
    csr: Pem


class Joined(Frame):
    """What the host is from now on."""

    type: Literal["joined"] = "joined"
    agent_id: str
    certificate: Pem
    authorities: Pem


class Leave(Frame):
    """This host shall be an agent no more. Who it is, its certificate says."""

    type: Literal["leave"] = "leave"


class Left(Frame):
    """It is none any more: its certificates are revoked, its instances anybody's who lists them. `released`
    is how many those were, 0 where the same was answered before."""

    type: Literal["left"] = "left"
    agent_id: str
    released: int = Field(ge=0, le=MAX_NUMBER)


Question = Join | RenewExpired | Leave
Answer = Joined | Left | Refuse

_QUESTION: Final[TypeAdapter[Question]] = TypeAdapter(Annotated[Question, Field(discriminator="type")])
_ANSWER: Final[TypeAdapter[Answer]] = TypeAdapter(Annotated[Answer, Field(discriminator="type")])


def decode_question(text: str | bytes) -> Question:
    """Raises ProtocolError with a code of `bad_frame`."""
    return decode_as(_QUESTION, text)


def decode_answer(text: str | bytes) -> Answer:
    """Raises ProtocolError with a code of `bad_frame`."""
    return decode_as(_ANSWER, text)
