"""`releasehand-agent doctor`: real sockets, real TLS, real files; each finding by the condition itself."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.config import AgentConfig, read_config
from agent.core.finding import Finding, Level
from agent.core.link_state import LinkCondition, LinkState
from agent.doctor import examine
from agent.doctor.account import Account, account_of, find_account
from agent.doctor.bus import find_lack_of_bus
from agent.doctor.host import find_nearest, measure_space
from agent.doctor.systemd import read_unit
from agent.link_file import LinkFile
from agent.state_dir import hold_state_dir
from controller.pki import Authority, open_authority
from shared.clock import SystemClock
from shared.identity_folder import IdentityFolder
from tests.fakes.certificates import MONTH, give_identity
from tests.fakes.clock import FakeClock
from tests.fakes.hub import FakeHub, run_hub
from tests.fakes.users import ORDINARY, become, find_python, open_folder

NOW = SystemClock().now()


def config_of(folder: Path, text: str = "") -> AgentConfig:
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    file = folder / "agent.toml"
    trust = f'trusted_dir = "{folder}/trusted.d"\nrevoked_dir = "{folder}/revoked.d"'
    for name in ("trusted.d", "revoked.d"):
        (folder / name).mkdir(exist_ok=True)
    file.write_text(
        f'state_dir = "{folder}/state"\n[packages]\nreserve_bytes = 0\n[trust]\n{trust}\n'
        f'[[instance]]\nid = "web-1"\nservice = "web"\nroot = "{folder}/srv/web"\n'
        + (text or 'driver = { type = "none" }\n')
    )
    return read_config(file, {})


def diagnose(config: AgentConfig, *, ahead: timedelta = timedelta()) -> dict[str, Finding]:
    """By check; the worst of several."""
    clock = FakeClock()
    clock.advance((SystemClock().now() + ahead - clock.now()).total_seconds())  # not NOW: it may be long ago
    found: dict[str, Finding] = {}
    for one in examine(config, clock):
        known = found.get(one.check)
        if known is None or list(Level).index(one.level) > list(Level).index(known.level):
            found[one.check] = one
    return found


async def diagnose_beside(hub: FakeHub, config: AgentConfig, **more: Any) -> dict[str, Finding]:
    return await asyncio.to_thread(diagnose, config, **more)


async def test_a_host_that_is_well_has_no_problem_but_that_no_agent_runs(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    async with run_hub() as hub:
        hub.answers_authority = True
        hub.take_in(config.state_dir)
        with hold_state_dir(config.state_dir):
            state = LinkState(LinkCondition.ONLINE, NOW, hub.url, NOW)
            await LinkFile(config.state_dir).write(state)
            found = await diagnose_beside(hub, config)
    assert {one.level for one in found.values()} == {Level.OK}, found
    told = {"python", "agent.unit", "agent.link", "identity", "identity.mode", "identity.certificate"}
    told |= {"reach.dns", "reach.tcp", "reach.tls", "clock", "trust", "disk.space", "root.write"}
    assert set(found) == told


# the way to the controller


def test_a_name_that_nobody_knows(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    give_identity(config.state_dir, "host-1", "wss://no-such-host.invalid:8443")
    found = diagnose(config)
    assert "cannot be resolved" in found["reach.dns"].why
    assert "/etc/hosts" in found["reach.dns"].mend
    assert "reach.tcp" not in found


def test_a_port_where_nothing_listens(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    give_identity(config.state_dir, "host-1", "wss://localhost:1")
    found = diagnose(config)
    assert (found["reach.dns"].level, found["reach.tcp"].level) == (Level.OK, Level.PROBLEM)
    assert "nothing listens at localhost:1" in found["reach.tcp"].why


async def test_a_hub_of_another_authority(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    async with run_hub() as hub:
        hub.answers_authority = True
        hub.take_in(config.state_dir)
        other = tmp_path / "other"
        give_identity(other, "host-1", hub.url, authority=make_authority(tmp_path / "pki"))
        shutil.copy(IdentityFolder(other).authority_file, IdentityFolder(config.state_dir).authority_file)
        found = await diagnose_beside(hub, config)
    assert "is of another authority than the one that this host joined" in found["reach.tls"].why


def make_authority(folder: Path) -> Authority:

    return open_authority(folder, NOW)


@pytest.mark.parametrize("days", [-3, 200])
async def test_a_clock_that_is_wrong_is_told_with_its_amount(tmp_path: Path, days: int) -> None:
    """Both by TLS, which has a clock of its own to go by, and by what the other side says."""
    config = config_of(tmp_path)
    async with run_hub() as hub:
        hub.answers_authority = True
        hub.take_in(config.state_dir)
        found = await diagnose_beside(hub, config, ahead=timedelta(days=days))
    direction = "behind" if days < 0 else "ahead of"
    assert found["clock"].level is Level.PROBLEM
    assert f"s {direction} the controller's" in found["clock"].what
    assert found["identity.certificate"].level is Level.PROBLEM


# identity


def test_a_host_that_has_not_joined(tmp_path: Path) -> None:
    found = diagnose(config_of(tmp_path))
    assert found["identity"].level is Level.PROBLEM
    assert found["identity"].mend.startswith("releasehand-agent join --url")


def test_an_identity_that_is_of_no_use(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    give_identity(config.state_dir, "host-1", "wss://localhost:1")
    IdentityFolder(config.state_dir).certificate_file.write_text("nothing")
    found = diagnose(config)
    assert "holds no certificate in PEM form" in found["identity"].why


@pytest.mark.parametrize("name", ["", "identity", "identity/agent.key"])
def test_a_key_that_others_can_have(tmp_path: Path, name: str) -> None:
    config = config_of(tmp_path)
    give_identity(config.state_dir, "host-1", "wss://localhost:1")
    place = config.state_dir / name
    place.chmod(0o777)
    found = diagnose(config)["identity.mode"]
    assert (found.level, found.subject) == (Level.PROBLEM, str(place))
    mend(found)
    assert diagnose(config)["identity.mode"].level is Level.OK


def test_a_certificate_that_was_not_renewed_in_time(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    give_identity(config.state_dir, "host-1", "wss://localhost:1", issued_at=NOW - 0.9 * MONTH)
    assert diagnose(config)["identity.certificate"].level is Level.WARNING


# disks and folders


def mend(found: Finding) -> None:
    """What it says, as a person would type it."""
    subprocess.run(["/bin/sh", "-c", found.mend], check=True)


def test_a_key_file_that_cannot_be_read_as_one(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    (tmp_path / "trusted.d" / "ci.pub").write_text("no key")
    assert "ci.pub" in diagnose(config)["trust"].what


def test_signatures_that_are_asked_for_without_a_key(tmp_path: Path) -> None:
    text = 'driver = { type = "none" }\n[trust.service.web]\nverification = "signature"\n'
    assert diagnose(config_of(tmp_path, text))["trust"].level is Level.PROBLEM


def test_a_root_that_is_no_folder(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    (tmp_path / "srv").write_text("a file")
    assert f"{tmp_path}/srv is no folder" in diagnose(config)["root.write"].what


def test_a_root_that_the_agents_account_may_not_write() -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can ask for another account")
    with open_folder() as folder:
        root = folder / "srv"
        root.mkdir(mode=0o755)
        ordinary = account_of(ORDINARY, ORDINARY)
        assert (ordinary.may("r", root), ordinary.may("w", root)) == (True, False)
        os.chown(root, ORDINARY, ORDINARY)
        assert ordinary.may("w", root) is True
        root.chmod(0o500)
        assert ordinary.may("w", root) is False


def test_only_root_may_ask_for_others() -> None:
    me = account_of(os.geteuid(), os.getegid())
    assert me.may("w", Path("/proc/self")) is not None
    assert find_account("no-such-account") is None
    root = find_account("")
    assert root == Account(0, 0, "root")
    if os.geteuid() != 0:
        assert root.may("w", Path("/")) is None


@pytest.mark.slow
def test_an_account_that_may_not_look_is_told_who_may() -> None:
    python = find_python(ORDINARY)
    with open_folder() as folder:
        config = config_of(folder)
        give_identity(config.state_dir, "host-1", "wss://localhost:1")
        (folder / "agent.toml").chmod(0o644)
        environment = {"PYTHONPATH": os.pathsep.join(["", *sys.path]), "PATH": os.environ["PATH"]}
        words = ["-m", "agent", "doctor", "--json", "--config", str(folder / "agent.toml")]
        done = subprocess.run(
            [*become(ORDINARY), python, *words], check=False, capture_output=True, text=True, env=environment
        )
    assert done.returncode == 1, done
    found = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
    for check in ("agent.unit", "identity"):
        assert found[check]["why"] == "Permission denied"
        assert found[check]["mend"] == "sudo releasehand-agent doctor"


def test_space_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    assert find_nearest(deep) == tmp_path
    found = os.statvfs(tmp_path)
    assert measure_space(deep).free_bytes <= found.f_blocks * found.f_frsize
    assert not measure_space(deep).read_only


def test_a_reserve_that_the_disk_has_not(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    huge = config.packages.model_copy(update={"reserve_bytes": 1 << 50})
    found = diagnose(config.model_copy(update={"packages": huge}))
    assert found["disk.space"].level is Level.PROBLEM


# units


def test_what_systemctl_shows_is_read() -> None:
    unit = read_unit(
        "releasehand-agent.service",
        "Id=releasehand-agent.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"
        "User=releasehand-agent\nNeedDaemonReload=no\nProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\n"
        "ReadWritePaths=-/srv +/opt/shop\nReadOnlyPaths=\nInaccessiblePaths=\n"
        "StateDirectory=releasehand-agent\n",
    )
    assert unit.writable == ("/srv", "/opt/shop", "/var/lib/releasehand-agent")
    assert (unit.user, unit.protect_system, unit.private_tmp) == ("releasehand-agent", "strict", True)
    assert not read_unit("gone.service", "LoadState=not-found\n").exists


def test_an_agent_that_is_refused_says_so(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with hold_state_dir(config.state_dir):
        state = LinkState(LinkCondition.REFUSED, NOW, "wss://ctl:8443", None, "it was revoked")
        asyncio.run(LinkFile(config.state_dir).write(state))
        found = diagnose(config)["agent.link"]
    assert (found.level, found.why) == (Level.PROBLEM, "it was revoked")


# as people see it


def test_people_and_programs_are_told_the_same(tmp_path: Path) -> None:
    config_of(tmp_path)
    words = ["doctor", "--config", str(tmp_path / "agent.toml")]
    page = CliRunner().invoke(app, words)
    answer = CliRunner().invoke(app, [*words, "--json"])
    assert (page.exit_code, answer.exit_code) == (1, 1)
    told = json.loads(answer.output)
    assert told["level"] == "problem"
    for one in told["findings"]:
        assert set(one) == {"check", "subject", "level", "what", "why", "mend"}
        assert one["what"] in page.output
        assert one["mend"] in page.output
    assert page.output.splitlines()[-1].startswith("2 problems, 0 warnings")


def test_a_configuration_that_cannot_be_used_is_a_problem_like_others(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("surprise = 1\n")
    result = CliRunner().invoke(app, ["doctor", "--config", str(file)])
    assert result.exit_code == 1
    assert "surprise: unknown key" in result.output


# hooks


@pytest.mark.skipif(shutil.which("systemd-run") is None, reason="no systemd-run is here")
def test_a_bus_that_is_not_there_or_answers_nobody_is_named(tmp_path: Path) -> None:
    bus = tmp_path / "bus"
    assert find_lack_of_bus(bus) == f"the system bus does not answer at {bus}: No such file or directory"
    with socket.socket(socket.AF_UNIX) as served:
        served.bind(str(bus))
        assert "Connection refused" in find_lack_of_bus(bus)
        served.listen()
        assert find_lack_of_bus(bus) == ""


def test_hooks_are_looked_at_where_there_are_some(tmp_path: Path) -> None:
    hook = '[[instance.pre_hook]]\ncommand = ["drain"]\n'
    assert "hooks" not in diagnose(config_of(tmp_path))
    assert "web-1" in diagnose(config_of(tmp_path, f'driver = {{ type = "none" }}\n{hook}'))["hooks"].what
