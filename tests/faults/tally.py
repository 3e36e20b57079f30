"""What was broken how often, and what did not end right: the table at the end of a run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

_KILLED: Final = ("agent killed", "controller killed")


@dataclass
class Tally:
    """Faults by kind: how many were made, and how many ended wrong."""

    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, line: str) -> None:
        """Say something below the table."""
        self.notes.append(line)

    def add(self, kind: str, runs: int, violations: Sequence[str]) -> None:
        """Count `runs` faults of `kind`, then fail the test that calls if anything was violated."""
        self.count(kind, runs, violations)
        assert not violations, "\n".join([f"{kind}: {len(violations)} violations", *violations])

    def count(self, kind: str, runs: int, violations: Sequence[str]) -> None:
        """Count them; the test that calls goes on to other kinds before it fails."""
        before = self.rows.get(kind, (0, 0))
        self.rows[kind] = (before[0] + runs, before[1] + len(violations))

    @property
    def kills(self) -> int:
        """How many daemons were really ended by SIGKILL; simulated ones do not count."""
        return sum(runs for kind, (runs, _) in self.rows.items() if kind.startswith(_KILLED))

    def lines(self) -> Iterable[str]:
        """The table, a line each."""
        width = max(len(kind) for kind in [*self.rows, "all"])
        yield f"{'fault':<{width}}  {'runs':>6}  {'violations':>10}"
        for kind, (runs, violations) in sorted(self.rows.items()):
            yield f"{kind:<{width}}  {runs:>6}  {violations:>10}"
        total = [sum(column) for column in zip(*self.rows.values(), strict=True)]
        yield f"{'all':<{width}}  {total[0]:>6}  {total[1]:>10}"
        yield f"daemons killed: {self.kills}"
        yield from self.notes
