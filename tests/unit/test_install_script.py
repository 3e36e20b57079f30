"""install.sh: shells read it, a piece of it does nothing, and what cannot install fails."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from controller.install import Installer, Package, PackageFolder, make_command, make_script

API, HUB = "https://ctl.example:8080", "wss://ctl.example:8443"
PACKAGE = Package(
    "releasehand-daemons_1.0+py3.11_amd64.deb", "1.0+py3.11", "3.11", "amd64", 28_000_000, "ab" * 32
)
SCRIPT = make_script(API, HUB, [PACKAGE])
SHELLS = [shell for shell in (["dash"], ["busybox", "sh"], ["bash", "--posix"]) if shutil.which(shell[0])]
each_shell = pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])


def run(shell: list[str], script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As `… | sh -s -- words` does it, on a host where no program is found."""
    argv = [shutil.which(shell[0]) or shell[0], *shell[1:], "-s", "--", *words]
    path = {"PATH": "/nowhere"} | environment
    return subprocess.run(argv, input=script, env=path, capture_output=True, text=True, check=False)


def cuts() -> list[int]:
    """Every byte where something begins or ends, and many between."""
    ends = [number for number, char in enumerate(SCRIPT) if char == "\n"]
    return sorted(
        {*range(40), *ends[::7], *range(40, len(SCRIPT) - 40, 307), *range(len(SCRIPT) - 40, len(SCRIPT))}
    )


@each_shell
def test_the_whole_script_begins_to_work_and_says_what_is_wrong(shell: list[str]) -> None:
    ran = run(shell, SCRIPT)
    assert ran.returncode == 1
    assert ran.stdout.startswith(f"an agent of {API} on ")
    assert "cannot install the agent: step check: " in ran.stderr
    assert "to mend it: " in ran.stderr


def test_a_script_that_was_cut_short_does_nothing_and_fails() -> None:
    start = SCRIPT.index("{")
    whole = len(SCRIPT.rstrip("\n"))
    for cut in cuts():
        ran = run(SHELLS[0], SCRIPT[:cut])
        assert ran.stdout == "" or cut >= whole, cut
        assert ran.returncode != 0 or cut <= start, cut


def test_the_line_fails_when_the_script_does_not_come_or_not_whole(tmp_path: Path) -> None:
    line, curl = make_command(API, "rhj1.x.y", named=True), tmp_path / "curl"
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for cut in (0, 5, 9, 10, 11, 12, 500, len(SCRIPT) // 2, len(SCRIPT) - 3):
        (tmp_path / "part").write_text(SCRIPT[:cut])
        curl.write_text(f'#!/bin/sh\ncat "{tmp_path}/part"\nexit 18\n')
        curl.chmod(0o755)
        ran = subprocess.run(["sh", "-c", line], env=path, capture_output=True, text=True, check=False)
        assert ran.returncode != 0, cut
        assert ran.stdout == "", cut


@each_shell
def test_a_wrong_word_is_told_with_all_that_are_right(shell: list[str]) -> None:
    for words in (["--colour"], ["--token-file"], ["--agent-id"]):
        ran = run(shell, SCRIPT, *words, PATH=os.environ["PATH"])
        assert ran.returncode == 2
        assert "usage: install.sh" in ran.stderr
    assert run(shell, SCRIPT, "--help", PATH=os.environ["PATH"]).returncode == 0


def test_nothing_leaves_its_quotes() -> None:
    evil = Package("a'; touch /tmp/x; '.deb", "1", "3.11", "amd64", 1, "$(id)")
    script = make_script(API, HUB, [evil])
    listing = script[script.index("packages=") :].partition("\n\n")[0]
    ran = run(SHELLS[0], f"{listing}\nprintf '%s' \"$packages\"\n")
    assert ran.stdout == "3.11 amd64 1 1 $(id) a'; touch /tmp/x; '.deb"


@pytest.mark.parametrize(("api", "said"), [(None, "not set up"), (API, "no package to install")])
@each_shell
async def test_where_nothing_can_be_installed_the_script_says_so_and_fails(
    shell: list[str], api: str | None, said: str, tmp_path: Path
) -> None:
    script = await Installer(api, HUB, PackageFolder(tmp_path)).write_script()
    ran = run(shell, script)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert said in ran.stderr
    assert "controller.toml" in ran.stderr


async def test_the_script_names_the_packages_that_are_there(tmp_path: Path) -> None:
    (tmp_path / PACKAGE.file).write_bytes(b"a package")
    script = await Installer(API, HUB, PackageFolder(tmp_path)).write_script()
    [package] = await PackageFolder(tmp_path).look()
    assert script == make_script(API, HUB, [package])
    assert f"packages='3.11 amd64 1.0+py3.11 9 {package.sha256} {PACKAGE.file}'\n" in script
    assert "'@" not in script


def test_the_line_carries_the_token_in_no_argument() -> None:
    line = make_command(API, "rhj1.x.y", named=True)
    script = f"curl -fsS {API}/install.sh || printf '\\nexit 1'"
    assert line == f"({script}) | RELEASEHAND_JOIN_TOKEN=rhj1.x.y sh"
    assert make_command(API, "rhj1.x.y", named=False) == f'{line} -s -- --agent-id "$(hostname)"'


@each_shell
def test_a_run_whose_reader_went_away_ends_as_one_that_was_interrupted(shell: list[str]) -> None:
    """An ssh without terminal that lost its link: what was half done is taken back, by the trap of EXIT."""
    source, sink = os.pipe()
    os.close(source)
    try:
        argv = [shutil.which(shell[0]) or shell[0], *shell[1:]]
        ran = subprocess.run(
            argv, input=SCRIPT.encode(), env={"PATH": "/nowhere"}, stdout=sink, stderr=sink, check=False
        )
    finally:
        os.close(sink)
    assert ran.returncode == 141


def test_the_python_that_counts_is_the_systems(tmp_path: Path) -> None:
    """The package is made for it; another one that root finds first says nothing of what fits."""
    lines = [line for line in SCRIPT.splitlines() if "python3 -" in line]
    assert lines
    assert [line for line in lines if "/usr/bin/python3 -" not in line] == []
