"""A host that has nothing becomes an agent by one line; where that fails, nothing is left enabled."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trustme

from .host import Host, wait_for
from .world import CONTROLLER, TOKEN, World, find_package

pytestmark = pytest.mark.timeout(900)  # booting and installing counts for the first test

FOLDER: Final = "/var/lib/releasehand-controller/install"
API: Final = "https://ctl:8080"
SERVING: Final = f"""\
{CONTROLLER}
[install]
url = "{API}"
"""
NEWER: Final = """\
set -e
rm -rf /root/tree && dpkg-deb -R "{folder}/{file}" /root/tree
sed -i 's/^Version: .*/Version: {version}/' /root/tree/DEBIAN/control
dpkg-deb --root-owner-group -Znone -b /root/tree "{folder}/.new" >/dev/null && rm -rf /root/tree
chmod 644 "{folder}/.new" && mv "{folder}/.new" "{folder}/releasehand-daemons_{version}_amd64.deb"
"""


@dataclass
class Site:
    """A controller that installs. `ca` is the authority of its API."""

    world: World
    ca: bytes
    file: str

    def invite(self, name: str) -> str:
        """The line for the host `name`, as the operator is shown it."""
        said = self.world.ctl.run(
            "runuser -u releasehand -- releasehand-controller join-token create"
            f" --config /etc/releasehand/controller.toml --host {name} 2>&1"
        ).output
        found = re.search(r"as root: (.*)", said)
        assert found is not None, said
        return found[1]

    @contextmanager
    def fresh(self, name: str, number: int) -> Iterator[Host]:
        """A host that knows the authority, and has nothing installed."""
        with self.world.lab.guest(name, number) as host:
            host.run("cat >>/etc/ssl/certs/ca-certificates.crt", stdin=self.ca)
            host.put("/root/ca.pem", self.ca)
            yield host

    def presence(self, name: str) -> str:
        agents = self.world.ctl.run(
            f"curl -sS -H 'Authorization: Bearer {TOKEN}' --cacert /root/api-ca.pem {API}/v1/agent"
        ).output
        found = re.search(rf'"agent_id":"{name}".*?"status":"(\w+)"', agents)
        return found[1] if found else ""


@pytest.fixture(scope="module")
def site(world: World) -> Iterator[Site]:
    """The controller of this world, its API over TLS for as long as these tests run."""
    ctl, authority = world.ctl, trustme.CA()
    leaf = authority.issue_cert("ctl")
    with tempfile.TemporaryDirectory() as folder:
        authority.cert_pem.write_to_path(Path(folder) / "ca.pem")
        ca = (Path(folder) / "ca.pem").read_bytes()
    ctl.put("/root/api-ca.pem", ca)
    ctl.put("/etc/releasehand/api.pem", leaf.cert_chain_pems[0].bytes())
    ctl.put("/etc/releasehand/api.key", leaf.private_key_pem.bytes(), mode=0o640)
    ctl.run("chgrp releasehand /etc/releasehand/api.key")
    before = ctl.run("cat /etc/releasehand/controller.toml").output
    tls = 'host = "0.0.0.0"\ncert_file = "/etc/releasehand/api.pem"\nkey_file = "/etc/releasehand/api.key"'
    set_up(world, SERVING.replace("[api]", f"[api]\n{tls}"))
    file = find_package().name
    ctl.run(f"install -d -m 755 -o releasehand -g releasehand {FOLDER}")
    ctl.put(f"{FOLDER}/{file}", world.package)
    yield Site(world, ca, file)
    ctl.run(f"rm -rf {FOLDER}")
    set_up(world, before)
    for host in world.hosts:
        wait_for(partial(world.sees, host), 60, f"{host.name} is back")


def set_up(world: World, config: str) -> None:
    """Run the controller with this configuration."""
    world.ctl.run("cat >/etc/releasehand/controller.toml", stdin=config.encode())
    world.ctl.run("systemctl restart releasehand-controller")


def state_of(host: Host) -> str:
    """What there is of an agent on a host, in one line."""
    return host.run(
        "for unit in releasehand-agent releasehand-agent-user; do"
        " systemctl is-enabled $unit 2>/dev/null || true; systemctl is-active $unit || true; done;"
        " ls /etc/releasehand/*.toml* 2>/dev/null; ls -d /tmp/releasehand.* 2>/dev/null; true"
    ).output.replace("\n", " ")


NOTHING: Final = "inactive inactive "
INSTALLED_ALONE: Final = "disabled inactive disabled inactive "


def test_one_line_makes_a_fresh_host_an_agent_that_is_online(site: Site) -> None:
    with site.fresh("h4", 104) as host:
        said = host.run(site.invite("h4")).output
        assert re.search(r"^  online +at wss://ctl:8443", said, re.MULTILINE), said
        assert said.splitlines()[-1].startswith("next: write into /etc/releasehand/agent.toml")
        assert state_of(host).startswith("enabled active disabled inactive /etc/releasehand/agent.toml ")
        assert site.presence("h4") == "online"

        before = host.run(
            "systemctl show -P MainPID releasehand-agent; stat -c %i%z /etc/releasehand/agent.toml"
        )
        again = host.run(f"(curl -fsS {API}/install.sh || printf '\\nexit 1') | sh").output
        assert len(re.findall(r"^  \w+ +already: ", again, re.MULTILINE)) == 4, again
        after = host.run(
            "systemctl show -P MainPID releasehand-agent; stat -c %i%z /etc/releasehand/agent.toml"
        )
        assert after == before

        refused = host.run(f"curl -fsS {API}/install.sh | sh -s -- --without-root", check=False)
        assert (refused.code, "releasehand-agent.service is in use here" in refused.output) == (1, True)
        assert site.presence("h4") == "online"

        version = "9.0+py" + re.findall(r"\+py([0-9.]+)_", site.file)[0]
        site.world.ctl.run(NEWER.format(folder=FOLDER, file=site.file, version=version))
        upgraded = host.run(f"curl -fsS {API}/install.sh | sh").output
        site.world.ctl.run(f"rm {FOLDER}/releasehand-daemons_9.0*")
        assert re.search(
            rf"^  install +releasehand-daemons {re.escape(version)}, .* before", upgraded, re.MULTILINE
        )
        assert re.search(r"^  online +at wss://ctl:8443", upgraded, re.MULTILINE), upgraded
        newer = host.run(f"curl -fsS {API}/install.sh | sh").output
        assert "already: releasehand-daemons 9.0" in newer
        assert state_of(host).startswith("enabled active ")


def test_what_fails_says_why_and_leaves_nothing_enabled(site: Site) -> None:
    with site.fresh("h5", 105) as host:
        line = site.invite("h5")
        host.run(f"curl -fsS {API}/install.sh >/root/install.sh")
        token = re.findall(r"RELEASEHAND_JOIN_TOKEN=(\S+)", line)[0]
        host.put("/root/token", token, mode=0o600)
        by_file = "sh /root/install.sh --token-file /root/token"

        def fails(script: str, step: str, said: str, left: str) -> None:
            ran = host.run(script, check=False)
            assert ran.code != 0, ran.output
            assert f"cannot install the agent: step {step}: " in ran.output, ran.output
            assert said in ran.output, ran.output
            assert "to mend it: " in ran.output
            assert state_of(host) == left

        host.cut("down")
        assert host.run(line, check=False).code != 0  # the script itself does not come
        fails(by_file, "reach", "does not answer", NOTHING)
        host.heal()

        used = int(host.run("df -m / | awk 'NR == 2 { print $3 }'").output)
        host.limit_disk(f"{used + 60}m")
        fails(by_file, "check", "/opt has ", NOTHING)
        host.limit_disk("1g")

        site.world.ctl.run(f"echo >>{FOLDER}/{site.file}")
        fails(by_file, "fetch", "is not what the controller named: sha256 is ", NOTHING)
        site.world.ctl.run(f"truncate -s -1 {FOLDER}/{site.file}")

        host.put("/root/used", "rhj1." + "A" * 43 + "." + token.rpartition(".")[2])
        fails(by_file.replace("/root/token", "/root/used"), "join", "join token", INSTALLED_ALONE)

        drop_in = "/etc/systemd/system/releasehand-agent.service.d/test.conf"
        host.put(drop_in, "[Service]\nExecStartPre=/bin/false\nRestart=no\n")
        host.run("systemctl daemon-reload")
        fails(by_file, "start", "does not start", INSTALLED_ALONE)

        host.put(drop_in, "[Service]\nExecStartPre=/bin/sleep 60\n")
        host.run("systemctl daemon-reload; systemctl reset-failed")
        stopped = host.run(f"timeout -s TERM 8 {by_file}", check=False)
        assert stopped.code == 124, stopped.output  # what timeout says of it
        wait_for(lambda: state_of(host) == INSTALLED_ALONE, 10, "it is taken back")

        host.run(f"rm {drop_in}; systemctl daemon-reload")
        mended = host.run("sh /root/install.sh").output  # joined meanwhile: it needs no token
        assert re.search(r"^  online +at wss://ctl:8443", mended, re.MULTILINE), mended


def test_an_agent_without_root_takes_its_configuration_and_the_authority_by_file(site: Site) -> None:
    with site.world.lab.guest("h6", 106) as host:  # its system does not know the authority
        host.put("/root/ca.pem", site.ca)
        host.put("/root/agent.toml", '[metadata]\nrack = "a7"\n')
        line = site.invite("h6")
        refused = host.run(line, check=False)
        assert (refused.code, "certificate" in refused.output) == (1, True)
        options = "--without-root --ca-file /root/ca.pem --config /root/agent.toml"
        line = line.replace("curl ", "curl --cacert /root/ca.pem ") + f" -s -- {options}"
        host.run("install -D -m 640 /root/agent.toml /etc/releasehand/agent.toml")
        closed = host.run(line, check=False)
        assert closed.code == 1, closed.output
        assert "/etc/releasehand/agent.toml cannot be read by releasehand-agent" in closed.output, (
            closed.output
        )
        assert state_of(host) == f"{INSTALLED_ALONE}/etc/releasehand/agent.toml "
        mend = re.search(r"to mend it: (.*); run this again", closed.output)
        assert mend is not None, closed.output
        host.run(mend[1])
        host.run("runuser -u releasehand-agent -- cat /etc/releasehand/agent.toml")
        host.run("rm /etc/releasehand/agent.toml")
        said = host.run(line).output
        assert re.search(r"^  online +at wss://ctl:8443", said, re.MULTILINE), said
        assert state_of(host).startswith("disabled inactive enabled active /etc/releasehand/agent.toml ")
        assert host.run("cat /etc/releasehand/agent.toml").output == '[metadata]\nrack = "a7"\n'
        host.put("/root/agent.toml", "# another\n")
        other = host.run(line, check=False)
        assert (other.code, "is there already, and is not /root/agent.toml" in other.output) == (1, True)
        assert site.presence("h6") == "online"
