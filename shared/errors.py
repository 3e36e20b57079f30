"""The errors both daemons share: a shallow tree whose codes never change."""

from typing import ClassVar

from releasehand.model.codes import FailureCode


class ReleasehandError(Exception):
    """Something that a person or a peer can do something about. Its text reads «cannot X: why»."""


class AttemptError(ReleasehandError):
    """An attempt cannot go on. `code` is what the controller records; the text is what people read."""

    code: ClassVar[FailureCode]


class ProtocolError(ReleasehandError):
    """The peer sent something that is not part of the protocol; the link is closed."""

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(f"cannot understand the peer: {reason}")
