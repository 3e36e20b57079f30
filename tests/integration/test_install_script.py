"""install.sh from a real controller, over TLS, by real shells: every check that stops it, up to the package.

It runs as root of a user namespace with an empty /opt, /run and /var/lib/dpkg: nothing can be installed.
What comes after the package needs a real systemd: tests/hosts/test_install.py."""

import asyncio
import os
import shutil
import subprocess
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
import trustme

from controller.app import run_controller
from controller.config import ApiSection, ControllerConfig, HubSection, InstallSection, PkiSection
from shared.clock import SystemClock
from tests.fakes.processes import free_ports

TOKEN: Final = "rhj1.of-the.wrong-size"  # looks like one, which is all that the script looks at
PROGRAMS: Final = ("unshare", "curl", "dpkg", "systemctl")
HOST: Final = """\
[ ! -d /etc/releasehand ] || mount -t tmpfs none /etc/releasehand
mount -t tmpfs -o "size=${OPT:-8m}" none /opt
mount -t tmpfs none /var/lib/dpkg
mount -t tmpfs none /run
[ -n "${BARE-}" ] || mkdir -p /run/systemd/system
exec "$@"
"""
"""Makes a namespace a host on which systemd seems to run, unless it is BARE, and becomes what follows."""


def own_python() -> str:
    asked = ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def own_architecture() -> str:
    asked = ["dpkg", "--print-architecture"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def find_lack() -> str:
    """Why this machine cannot play a host; "" if it can."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"it lacks {', '.join(missing)}"
    probe = ["unshare", "-r", "-m", "mount", "-t", "tmpfs", "none", "/opt"]
    return "" if subprocess.run(probe, capture_output=True, check=False).returncode == 0 else "no namespaces"


pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(find_lack()), reason=find_lack() or "it can"),
]


@dataclass
class Site:
    """A controller that installs, and the machine of somebody who pipes its script into a shell."""

    folder: Path
    api: str
    hub: str
    package: Path

    async def fetch(self) -> str:
        """The script, as the line fetches it."""
        argv = ["curl", "-fsS", "--cacert", str(self.folder / "ca.pem"), f"{self.api}/install.sh"]
        return (await self.call(argv, ""))[1]

    async def run(
        self,
        script: str,
        *words: str,
        shell: tuple[str, ...] = ("sh",),
        token: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """How it ended, and what it said. Its root is nobody of this machine."""
        argv = ["unshare", "-r", "-m", "sh", "-ec", HOST, "sh", *shell, "-s", "--", *words]
        code, said = await self.call(argv, script, **(environment or {}), RELEASEHAND_JOIN_TOKEN=token)
        assert not list((self.folder / "tmp").iterdir()), "it leaves no download behind"
        return code, said

    async def call(self, argv: list[str], script: str, **more: str) -> tuple[int, str]:
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(self.folder / "tmp")} | more
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=PIPE, stdout=PIPE, stderr=subprocess.STDOUT, env=environment
        )
        said, _ = await process.communicate(script.encode())
        assert process.returncode is not None
        return process.returncode, said.decode()

    def put_program(self, name: str, script: str) -> None:
        """What another host has in its place."""
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    @property
    def trusted(self) -> tuple[str, str]:
        return ("--ca-file", str(self.folder / "ca.pem"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder, ports, authority = tmp_path_factory.mktemp("site"), free_ports(), trustme.CA()
    api_port, hub_port = next(ports), next(ports)
    leaf = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf.cert_chain_pems[0].write_to_path(folder / "api.pem")
    leaf.private_key_pem.write_to_path(folder / "api.key")
    for name in ("install", "tmp"):
        (folder / name).mkdir()
    package = folder / "install" / f"releasehand-daemons_1.0+py{own_python()}_{own_architecture()}.deb"
    config = ControllerConfig(
        database=f"sqlite:///{folder}/controller.db",
        api=ApiSection(port=api_port, cert_file=folder / "api.pem", key_file=folder / "api.key"),
        hub=HubSection(host="127.0.0.1", port=hub_port, names=("localhost",)),
        pki=PkiSection(directory=folder / "pki"),
        install=InstallSection(url=f"https://localhost:{api_port}", folder=folder / "install"),
    )
    async with run_controller(config, SystemClock()):
        yield Site(folder, f"https://localhost:{api_port}", f"wss://localhost:{hub_port}", package)


@pytest.fixture
def site(running: Site) -> Site:
    running.package.write_bytes(b"what is no package, but has a digest" * 1000)
    return running


@pytest.mark.parametrize("shell", [("dash",), ("busybox", "sh"), ("bash", "--posix")], ids=lambda one: one[0])
async def test_another_package_than_the_one_that_was_named_is_refused(
    site: Site, shell: tuple[str, ...]
) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"there is no {shell[0]} here")
    script = await site.fetch()
    site.package.write_bytes(b"what somebody put in its place")
    code, said = await site.run(script, *site.trusted, shell=shell, token=TOKEN)
    assert code == 1
    assert "step fetch: " in said
    assert "is not what the controller named: sha256 is " in said
    assert "reach      https://localhost" in said


async def test_a_controller_that_is_busy_is_asked_again_a_little_later(site: Site) -> None:
    count, real = site.folder / "asked", shutil.which("curl")
    site.put_program("busy/sleep", f'echo "slept $1" >>{count}')
    site.put_program(
        "busy/curl",
        f"""echo asked >>{count}
[ "$(grep -c asked {count})" -lt 3 ] || exec {real} "$@"
while [ "$1" != --dump-header ]; do shift; done
echo 'HTTP/1.1 429 Too Many Requests' >"$2"
exit 22""",
    )
    script = await site.fetch()
    site.package.unlink()
    path = f"{site.folder}/busy:{os.environ['PATH']}"
    code, said = await site.run(script, *site.trusted, token=TOKEN, environment={"PATH": path})
    assert (code, "did not come: curl: (22)" in said) == (1, True)
    assert count.read_text().split("\n") == ["asked", "slept 2", "asked", "slept 4", "asked", "asked", ""]


async def test_a_package_that_is_gone_is_told(site: Site) -> None:
    script = await site.fetch()
    site.package.unlink()
    code, said = await site.run(script, *site.trusted, token=TOKEN)
    assert (code, "did not come" in said, "404" in said) == (1, True, True)


async def test_an_api_that_the_host_does_not_trust_is_not_asked(site: Site) -> None:
    code, said = await site.run(await site.fetch(), token=TOKEN)
    assert code == 1
    assert "step reach: " in said
    assert "certificate" in said


async def test_a_hub_that_cannot_be_reached_is_told(site: Site) -> None:
    script = (await site.fetch()).replace(site.hub, "wss://localhost:1")
    code, said = await site.run(script, *site.trusted, token=TOKEN)
    assert code == 1
    assert "step reach: wss://localhost:1 cannot be reached: " in said


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ({"BARE": "yes"}, "systemd does not run here"),
        ({"OPT": "64k"}, "/opt has 0 MiB of free disk"),
        ({"PATH": "{folder}/old:{path}"}, "systemd 232 is too old"),
        ({"PATH": "{folder}/other:{path}"}, "the controller has no package for m68k with python"),
    ],
    ids=["no systemd", "no room", "old systemd", "other machine"],
)
async def test_a_host_that_does_not_fit_is_told_before_anything_is_asked(
    site: Site, host: dict[str, str], said: str
) -> None:
    site.put_program("old/systemctl", "echo 'systemd 232 (232)'")
    site.put_program("other/dpkg", "echo m68k")
    told = {name: text.format(folder=site.folder, path=os.environ["PATH"]) for name, text in host.items()}
    code, heard = await site.run(await site.fetch(), environment=told)
    assert code == 1
    assert f"step check: {said}" in heard
    assert "to mend it: " in heard
    assert "reach" not in heard


async def test_whoever_is_not_root_is_told(site: Site) -> None:
    code, said = await site.call(["unshare", "-U", "sh"], await site.fetch())
    assert (code, "only root can install it" in said) == (1, True)


async def test_a_host_that_has_not_joined_needs_a_token(site: Site) -> None:
    script = await site.fetch()
    code, said = await site.run(script, *site.trusted)
    assert (code, "step token: there is no join token" in said) == (1, True)
    code, said = await site.run(script, *site.trusted, "--token-file", "/nowhere/token")
    assert (code, "/nowhere/token cannot be read" in said) == (1, True)
    code, said = await site.run(script, *site.trusted, token="rht_of-the-api")
    assert (code, "what was given is no join token" in said) == (1, True)
    assert "fetch" not in said


async def test_a_host_of_another_controller_is_left_as_it_is(site: Site, tmp_path: Path) -> None:
    """Above all it gets no package of this one, which is code that root runs."""
    identity = tmp_path / "identity"
    identity.mkdir()
    (identity / "agent.pem").write_text("what the other one gave it")
    (identity / "controller.url").write_text("wss://other.example:8443\n")
    config = tmp_path / "agent.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n')
    code, said = await site.run(await site.fetch(), *site.trusted, "--config", str(config), token=TOKEN)
    assert (code, "this host is an agent of wss://other.example:8443 already" in said) == (1, True)
    assert "fetch" not in said
    assert "reach" not in said


async def test_a_host_whose_configuration_says_where_its_controller_is_now_is_one_of_it(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "identity").mkdir()
    (tmp_path / "identity/agent.pem").write_text("what it was given at the old address")
    (tmp_path / "identity/controller.url").write_text("wss://old.example:8443\n")
    config, script = tmp_path / "agent.toml", await site.fetch()
    config.write_text(f'state_dir = "{tmp_path}"\n[controller]\nurl = "{site.hub}/"\n')
    site.package.write_bytes(b"so that it goes no further")
    code, said = await site.run(script, *site.trusted, "--config", str(config))
    assert (code, "step fetch: " in said) == (1, True)


async def test_a_configuration_that_is_none_stops_it_early(site: Site) -> None:
    code, said = await site.run(await site.fetch(), *site.trusted, "--config", "/nowhere/agent.toml")
    assert (code, "/nowhere/agent.toml cannot be read" in said) == (1, True)
