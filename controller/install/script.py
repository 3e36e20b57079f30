"""The script that hosts fetch and run as root: install.sh with what this controller has."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from .folder import Package, PackageFolder

_REFUSAL: Final = """\
#!/bin/sh
{{ # It fails on purpose: who pipes it into a shell is not to take it for an installation.
echo 'cannot install: {why}' >&2
echo 'at the controller: {mend}' >&2
exit 1
}}
"""


@dataclass(frozen=True, slots=True)
class Installer:
    """`api` is where hosts find the API (https://HOST:PORT), None where nothing is to be installed from here;
    `hub` is where they find the hub (wss://HOST:PORT)."""

    api: str | None
    hub: str
    folder: PackageFolder

    async def write_script(self) -> str:
        """For the packages that are there now; where a host cannot be installed from here, one that says so
        and fails."""
        if self.api is None:
            return _refuse(
                "this controller is not set up to install agents",
                'set url = "https://..." in the table [install] of controller.toml',
            )
        packages = await self.folder.look()
        if not packages:
            return _refuse(
                "this controller has no package to install",
                "put releasehand-daemons_*.deb into the folder that install.folder in controller.toml names",
            )
        return make_script(self.api, self.hub, packages)


def make_script(api: str, hub: str, packages: Sequence[Package]) -> str:
    """The script for these packages, which are at least one."""
    lines = [
        f"{one.python} {one.architecture} {one.version} {one.size_bytes} {one.sha256} {one.file}"
        for one in packages
    ]
    values = {"@API@": api, "@HUB@": hub, "@PACKAGES@": "\n".join(lines)}
    text = _template()
    for name, value in values.items():
        text = text.replace(f"'{name}'", f"'{_quoted(value)}'")
    return text


def make_command(api: str, token: str, *, named: bool) -> str:
    """The line that installs an agent, for root on a host. `named`: the token says who the agent is; else its
    host's name does.

    A shell that is given nothing ends well: where the script does not come, `exit 1` does."""
    name = "" if named else ' -s -- --agent-id "$(hostname)"'
    # A variable that is set for one command stands in no list of processes.
    script = f"curl -fsS {api}/install.sh || printf '\\nexit 1'"
    return f"({script}) | RELEASEHAND_JOIN_TOKEN={token} sh{name}"


def _refuse(why: str, mend: str) -> str:
    """A person can read it in a browser, too."""
    return _REFUSAL.format(why=_quoted(why), mend=_quoted(mend))


def _quoted(text: str) -> str:
    """For between single quotes."""
    return text.replace("'", "'\\''")


@cache
def _template() -> str:
    return files("controller.install").joinpath("install.sh").read_text(encoding="utf-8")
