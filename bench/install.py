"""`make bench-install`: how long the agent takes to install a package, beside `curl | tar x`.

Every round installs each package in three ways, one after the other, so that what else the machine does
meets all of them alike; the medians of the paired ratios are what counts.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.figures import Figure, print_figures
from bench.nginx import NginxMissingError, serve
from bench.packages import CASES, make_packages
from shared.clock import SystemClock

BENCH: Final = "install"
_CLOCK: Final = SystemClock()
# The baselines are durable only some thirty seconds later; the agent is when it returns.
_CURL_TAR: Final = 'set -eo pipefail; curl -sS --cacert "$2" "$1" | tar -x {flag} -C "$4/out"'
_CURL_SUM_TAR: Final = (
    'set -e; curl -sS --cacert "$2" -o "$4/package" "$1"; echo "$3  $4/package" | sha256sum -c --status; '
    'tar -x {flag} -f "$4/package" -C "$4/out"'
)
_UNPACKERS: Final = {".gz": "--gzip", ".zst": "--zstd"}
_UNITS: Final = {"s": "s", "bytes": "B"}

Sample = Mapping[str, float]


def main() -> int:
    """Measure and print. Exit code 0, or 1 when something that is needed is missing."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--case", action="append", choices=CASES, help="all of them without this")
    options.add_argument("--directory", type=Path, help="on the file system to measure; default: here")
    options.add_argument("--packages", type=Path, help="where to keep the packages for the next time")
    chosen = options.parse_args()
    missing = [tool for tool in ("curl", "tar", "gzip", "zstd", "bash") if shutil.which(tool) is None]
    if missing:
        print(f"the benchmark needs {', '.join(missing)}", file=sys.stderr)
        return 1
    place = chosen.directory or Path.cwd()
    with tempfile.TemporaryDirectory(prefix=".bench-install-", dir=place, ignore_cleanup_errors=True) as made:
        work = Path(made)
        packages = chosen.packages or work / "packages"
        packages.mkdir(exist_ok=True)
        (work / "nginx").mkdir()
        if not all((packages / case).exists() for case in CASES):
            print("making the packages …", file=sys.stderr)
            make_packages(packages)
        try:
            with serve(packages, work / "nginx") as (url, ca_file):
                print_figures(measure(work, packages, url, ca_file, chosen.case or CASES, chosen.rounds))
        except NginxMissingError as exc:
            print(exc, file=sys.stderr)
            return 1
    return 0


def measure(
    work: Path, packages: Path, url: str, ca_file: Path, cases: Sequence[str], rounds: int
) -> list[Figure]:
    """Run `rounds` rounds of each of `cases` after one that only warms the caches; return the medians."""
    figures = []
    for case in cases:
        with (packages / case).open("rb") as package:
            sha256 = hashlib.file_digest(package, "sha256").hexdigest()
        arguments = (f"{url}/{case}", str(ca_file), sha256)
        taken: list[Mapping[str, Sample]] = []
        for number in range(rounds + 1):
            taken.append(_round(work, Path(case).suffix, arguments))
            walls = "  ".join(f"{way} {sample['wall_s']:.2f} s" for way, sample in taken[-1].items())
            print(f"{case} {number or 'warm-up'}: {walls}", file=sys.stderr)
        figures += _summarise(case, taken[1:])
    return figures


def _round(work: Path, suffix: str, arguments: tuple[str, ...]) -> Mapping[str, Sample]:
    flag = _UNPACKERS[suffix]
    agent = [sys.executable, "-m", "bench.install_run"]
    return {
        "agent": _run(work, [*agent, *arguments]),
        "curl_tar": _run(work, ["bash", "-c", _CURL_TAR.format(flag=flag), "bash", *arguments]),
        "curl_sha256_tar": _run(work, ["bash", "-c", _CURL_SUM_TAR.format(flag=flag), "bash", *arguments]),
    }


def _run(work: Path, command: list[str]) -> Sample:
    target = Path(tempfile.mkdtemp(prefix="target-", dir=work))
    (target / "out").mkdir()
    os.sync()  # what the run before left to write is not this one's
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = _CLOCK.monotonic()
    ended = subprocess.run([*command, str(target)], stdout=subprocess.PIPE, check=True)
    wall = _CLOCK.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Nothing is deleted before the end: for minutes ext4 looks long for inodes where many were freed.
    if ended.stdout:
        told: dict[str, float] = json.loads(ended.stdout)
        return told
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": wall, "cpu_s": cpu}


def _summarise(case: str, taken: list[Mapping[str, Sample]]) -> list[Figure]:
    figures = []
    for way in taken[0]:
        for metric in taken[0][way]:
            value = statistics.median(sample[way][metric] for sample in taken)
            unit = _UNITS[metric.rpartition("_")[2]]
            figures.append(Figure(BENCH, case, f"{way}_{metric}", round(value, 4), unit))
    for way in ("curl_tar", "curl_sha256_tar"):
        ratios = [sample["agent"]["wall_s"] / sample[way]["wall_s"] for sample in taken]
        figures.append(Figure(BENCH, case, f"ratio_to_{way}", round(statistics.median(ratios), 3), "ratio"))
    return figures


if __name__ == "__main__":
    sys.exit(main())
