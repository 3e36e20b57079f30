"""Zip archives that honest tools make come out as unzip has them."""

# ruff: noqa: ASYNC240 — each test has a loop to itself

import io
import os
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.fakes.harmless_zips import HARMLESS
from tests.fakes.trees import describe_tree
from tests.fakes.unpacking import unpack_bytes
from tests.fakes.zips import (
    Item,
)

pytestmark = pytest.mark.slow

CONTENT = b"content\n"
A, B = Item(b"a"), Item(b"b")


@pytest.mark.parametrize("name", HARMLESS)
async def test_strange_but_harmless_comes_out(name: str, dest: Path) -> None:
    data, files = HARMLESS[name]
    await unpack_bytes(data, dest)
    found = {str(path.relative_to(dest)): path.read_bytes() for path in dest.rglob("*") if path.is_file()}
    assert found == files


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "empty").mkdir(parents=True)
    (root / "grüße, 世界.txt").write_text("hello\n")
    (root / "lib").mkdir()
    (root / "lib/data.bin").write_bytes(os.urandom(3_000_000) + bytes(2_000_000))
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "current").symlink_to("lib/data.bin")
    return root


def run(*command: str | Path, cwd: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd.parent), "LC_ALL": "C.UTF-8"}
    subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True)


GIT = """git init -q && git add . && git -c user.name=n -c user.email=e commit -qm x &&
git archive --format=zip --prefix=thing/ -o ../made.zip HEAD"""
TOOLS = {
    "zip": ["zip", "-q", "-r", "-y", "../made.zip", "."],
    "zip to a pipe": ["sh", "-c", "zip -q -r - . | cat > ../made.zip"],
    "zip in ZIP64": ["sh", "-c", "zip -q -r -y -fz ../made.zip ."],
    "7-Zip": ["7z", "a", "-tzip", "-bso0", "-snl", "../made.zip", "."],
    "bsdtar": ["bsdtar", "--format=zip", "-cf", "../made.zip", "."],
    "jar": ["jar", "--create", "--no-manifest", "--file", "../made.zip", "-C", ".", "."],
    "git": ["sh", "-c", GIT],
}


@pytest.mark.parametrize("tool", TOOLS)
async def test_what_a_tool_zips_comes_out_as_unzip_has_it(tool: str, source: Path, dest: Path) -> None:
    needed = {
        TOOLS[tool][0],
        "unzip",
        *({"zip"} if "zip" in tool else ()),
        *({"git"} if tool == "git" else ()),
    }
    if missing := [name for name in needed if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed")
    if tool == "jar":  # unzip reads its UTF-8 names as something else
        (source / "grüße, 世界.txt").unlink()
    run(*TOOLS[tool], cwd=source)
    reference = source.with_name("reference")
    run("unzip", "-q", "-d", reference, "made.zip", cwd=source.parent)
    await unpack_bytes(source.with_name("made.zip").read_bytes(), dest)
    assert describe_tree(dest) == describe_tree(reference)


async def test_what_python_zips_comes_out_with_its_executable_bits(dest: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, mode in (("run", 0o100755), ("setuid", 0o104755), ("plain", 0o100600)):
            item = zipfile.ZipInfo(name)
            item.external_attr = mode << 16
            archive.writestr(item, name)
        with archive.open("streamed", "w", force_zip64=True) as file:
            file.write(b"x" * 100_000)
    await unpack_bytes(out.getvalue(), dest)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in dest.iterdir()}
    assert modes == {"run": 0o755, "setuid": 0o755, "plain": 0o644, "streamed": 0o644}
    assert (dest / "streamed").read_bytes() == b"x" * 100_000
