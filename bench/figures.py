"""How every benchmark prints: one JSON object a line on stdout, a table for people on stderr."""

import json
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """One measured value."""

    bench: str
    case: str
    metric: str
    value: float
    unit: str


def print_figures(figures: Sequence[Figure]) -> None:
    """Print `figures`: machine-readable on stdout, as one table for each bench on stderr."""
    for figure in figures:
        print(json.dumps(figure._asdict()), flush=True)
    for bench in dict.fromkeys(figure.bench for figure in figures):
        rows = [figure for figure in figures if figure.bench == bench]
        cases = list(dict.fromkeys(figure.case for figure in rows))
        values = {(figure.metric, figure.case): f"{figure.value:.4g} {figure.unit}" for figure in rows}
        metrics = list(dict.fromkeys(figure.metric for figure in rows))
        width = max(len(metric) for metric in metrics)
        print(f"\n{bench:{width}}  " + "  ".join(f"{case:>14}" for case in cases), file=sys.stderr)
        for metric in metrics:
            cells = "  ".join(f"{values.get((metric, case), ''):>14}" for case in cases)
            print(f"{metric:{width}}  {cells}", file=sys.stderr)
