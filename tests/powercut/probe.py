"""python -m tests.powercut.probe FOLDER: make a disk there and cut its power, to see whether it works."""

import sys
from pathlib import Path
from subprocess import CalledProcessError

from tests.powercut.disk import Disk, cut_power

if __name__ == "__main__":
    try:
        disk = Disk(Path(sys.argv[1]), "probe")
        cut_power(disk.mount)
        disk.power_up()
        disk.unmount()
    except CalledProcessError as exc:
        sys.exit(f"{' '.join(exc.cmd)}: {exc.stderr}")
    except OSError as exc:
        sys.exit(str(exc))
