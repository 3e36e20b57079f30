"""Installing agents by one line: the packages that hosts may fetch, and the script that does it."""

from .folder import Package, PackageFolder
from .script import Installer, make_command, make_script

__all__ = ["Installer", "Package", "PackageFolder", "make_command", "make_script"]
