"""`make bench-memory`: how much the agent grows while it installs a package of 2 GB.

The same installation as in bench.install, once: growth does not depend on what else the machine does."""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.figures import Figure, print_figures
from bench.nginx import NginxMissingError, serve
from bench.packages import make_large_package

BENCH: Final = "memory"
_METRICS: Final = {
    "agent_rss_growth_bytes": "rss_growth_bytes",
    "agent_child_rss_bytes": "child_rss_bytes",
}


def main() -> int:
    """Measure and print. Exit code 0, or 1 when something that is needed is missing."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bytes", type=int, default=2_000_000_000, help="of the package")
    options.add_argument("--directory", type=Path, help="where three times as much fits; default: here")
    chosen = options.parse_args()
    place = chosen.directory or Path.cwd()
    with tempfile.TemporaryDirectory(prefix=".bench-memory-", dir=place) as made:
        work = Path(made)
        for name in ("packages", "nginx", "target"):
            (work / name).mkdir()
        print("making the package …", file=sys.stderr)
        package = make_large_package(work / "packages", chosen.bytes)
        try:
            with serve(package.parent, work / "nginx") as (url, ca_file):
                print_figures(measure(package, f"{url}/{package.name}", ca_file, work / "target"))
        except NginxMissingError as exc:
            print(exc, file=sys.stderr)
            return 1
    return 0


def measure(package: Path, url: str, ca_file: Path, target: Path) -> list[Figure]:
    """Install `package`, served at `url`, below `target`; return the peaks."""
    with package.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    command = [sys.executable, "-m", "bench.install_run", url, str(ca_file), sha256, str(target)]
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    figures = [Figure(BENCH, package.name, metric, told[name], "B") for metric, name in _METRICS.items()]
    return [Figure(BENCH, package.name, "package_bytes", package.stat().st_size, "B"), *figures]


if __name__ == "__main__":
    sys.exit(main())
