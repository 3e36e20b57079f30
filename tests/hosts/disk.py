"""A new host's own layer over the machine's file system: an identity, a quiet systemd, none of its set-up."""

import os
from pathlib import Path
from secrets import token_hex
from typing import Final

HIDDEN: Final = {
    "etc/systemd/system": 0o755,
    "etc/systemd/user": 0o755,
    "etc/systemd/system-generators": 0o755,
    "etc/cron.d": 0o755,
    "etc/releasehand": 0o755,
    "opt": 0o755,
    "srv": 0o755,
    "var/log/journal": 0o755,
    "var/lib/systemd": 0o755,
    "var/lib/private": 0o700,
    "var/tmp": 0o1777,
}
ABSENT: Final = (
    "etc/init.d",
    "etc/rc0.d",
    "etc/rc1.d",
    "etc/rc2.d",
    "etc/rc3.d",
    "etc/rc4.d",
    "etc/rc5.d",
    "etc/rc6.d",
    "var/lib/man-db/auto-update",  # an index of all manual pages at each installation: seconds, for nobody
)
# Units that belong to a machine with hardware, or that would fight with the one around it.
MASKED: Final = (Path(__file__).parent / "masked-units.txt").read_text(encoding="ascii").split()
FILES: Final = {
    "etc/fstab": "",
    "etc/resolv.conf": "",
    "etc/systemd/journald.conf.d/50-lab.conf": "[Journal]\nStorage=persistent\nReadKMsg=no\nAudit=no\n",
    "etc/systemd/system.conf.d/50-lab.conf": "[Manager]\nDefaultTimeoutStopSec=20s\n",
}


def lay_out(disk: Path, name: str) -> None:
    """Fill the overlay's upper layer of a host that boots for the first time. Root only."""
    upper = disk / "u"
    for folder, mode in HIDDEN.items():
        path = upper / folder
        path.mkdir(parents=True)
        path.chmod(mode)
        os.setxattr(path, "trusted.overlay.opaque", b"y")  # what the machine has there is hidden
    for file in ABSENT:
        (upper / file).parent.mkdir(parents=True, exist_ok=True)
        os.mknod(upper / file, 0o020000)  # a white-out: as if it were not there
    for file, text in {**FILES, "etc/machine-id": token_hex(16) + "\n", "etc/hostname": name + "\n"}.items():
        (upper / file).parent.mkdir(parents=True, exist_ok=True)
        (upper / file).write_text(text, encoding="utf-8")
    system = upper / "etc/systemd/system"
    for unit in MASKED:
        (system / unit).symlink_to("/dev/null")
    for generator in Path("/lib/systemd/system-generators").iterdir():
        (upper / "etc/systemd/system-generators" / generator.name).symlink_to("/dev/null")
    (system / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    for folder in ("w", "m"):
        (disk / folder).mkdir()
