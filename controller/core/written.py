"""An answer whose long list the database has put into JSON itself."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from releasehand.model import Answer

AnswerT_co = TypeVar("AnswerT_co", bound=Answer, covariant=True)


@dataclass(frozen=True, slots=True)
class Written(Generic[AnswerT_co]):
    """`answer` is all but its `instances`, which are the JSON array `instances`.

    Ten thousand instances go from the database to the socket as one text: an object of Python for each, and
    for each of its fields, would hold up everybody else for a quarter of a second."""

    answer: AnswerT_co
    instances: str

    def to_json(self) -> bytes:
        """The whole answer; fields may come in any order."""
        head = self.answer.model_dump_json(exclude={"instances"}).encode()
        return head[:-1] + b',"instances":' + self.instances.encode() + b"}"

    def read(self) -> AnswerT_co:
        """The whole answer as the model reads it."""
        model: type[AnswerT_co] = type(self.answer)
        return model.model_validate_json(self.to_json())
