"""The packages of the demo: real .tar.gz archives with a program, what it is, and weight to carry."""

import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo import program

KIB: Final = 1024


@dataclass(frozen=True)
class Package:
    """One release of a service. `weight_bytes` do not compress, so the archive is about as large."""

    service: str
    version: str
    weight_bytes: int = 64 * KIB
    comes_up: bool = True

    @property
    def file_name(self) -> str:
        """Its name at the origin."""
        return f"{self.service}-{self.version}.tar.gz"


def build_package(package: Package, folder: Path) -> str:
    """Write the archive into `folder` and return its SHA-256; the same package gives the same bytes."""
    release = {"service": package.service, "version": package.version, "comes_up": package.comes_up}
    files = {
        "serve.py": Path(program.__file__).read_bytes(),
        "release.json": json.dumps(release).encode(),
        "assets.bin": random.Random(package.file_name).randbytes(package.weight_bytes),  # noqa: S311 - ballast
    }
    path = folder / package.file_name
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()
