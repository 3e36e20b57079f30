"""A PostgreSQL server of the tests' own, on a socket in a folder that is thrown away with it."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
from sqlalchemy import text

from controller.store.columns import Row
from controller.store.engine import Database
from controller.store.schema import migrate

OWNER: Final = "releasehand"
MEMORY: Final = Path("/dev/shm")
"""Where files live without a disk, on Linux."""
_PREFIX: Final = "releasehand-pg-"  # and the number of the process that made it
_SETTINGS: Final = {
    "listen_addresses": "",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "log_min_messages": "log",  # that it is ready, but no errors: nobody reads on
    "log_checkpoints": "off",
}
"""fsync stays on, as the controller demands; in memory it costs nothing."""


class NoPostgresError(Exception):
    """This machine cannot run one, and why."""


@dataclass
class Postgres:
    """A running server, reached through a socket in `folder`."""

    folder: Path
    server: "subprocess.Popen[bytes]"
    _migrated: set[str] = field(default_factory=set)

    def url(self, database: str) -> str:
        """What a controller's configuration calls it."""
        return f"postgresql://{OWNER}@/{database}?host={self.folder}"

    def create(self, database: str) -> str:
        """Make an empty database; returns its URL."""
        _run([_program("createdb"), "-h", str(self.folder), "-U", OWNER, database])
        return self.url(database)

    async def empty(self, database: str) -> str:
        """Have the tables of `database` there and empty, numbering from 1: far quicker than a new one."""
        if database not in self._migrated:
            self.create(database)
        connected = Database(self.url(database))
        try:
            if database not in self._migrated:
                await migrate(connected)
                self._migrated.add(database)
                return self.url(database)
            names = ", ".join(f'"{table.name}"' for table in Row.metadata.sorted_tables)
            async with connected.write() as conn:
                await conn.execute(text("SET LOCAL session_replication_role = replica"))  # no triggers
                await conn.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
        finally:
            await connected.close()
        return self.url(database)

    def command(self, database: str, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        words = [word for statement in statements for word in ("-c", statement)]
        _run([_program("psql"), "-q", "-h", str(self.folder), "-U", OWNER, "-d", database, *words])

    def dump(self, database: str) -> bytes:
        """All that is in it, as text; its files hold long values compressed."""
        return _run([_program("pg_dump"), "-h", str(self.folder), "-U", OWNER, database])

    def crash(self) -> None:
        """SIGKILL of every process of it at once: what it has not written by then is lost."""
        leader = psutil.Process(self.server.pid)
        with self.server:
            for process in (leader, *leader.children()):
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def start(self) -> None:
        """Run it on what is in its folder; it answers when this returns."""
        self.server = _start(self.folder)


@contextmanager
def run_postgres() -> Iterator[Postgres]:
    """A new server. Raises NoPostgresError. It ends with the block, and if this process is killed."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _remove_left_behind(place)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, _user_for_root())
        options = ("--auth=trust", "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C.UTF-8")
        _run(_as_ordinary_user([_program("initdb"), "-D", f"{folder}/data", "-U", OWNER, *options]))
        postgres = Postgres(folder, _start(folder))
        try:
            yield postgres
        finally:
            with postgres.server as server:  # closes its pipe, and waits
                server.send_signal(signal.SIGQUIT)  # at once: nobody needs the data
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left_behind(place: Path) -> None:
    """What processes that were killed could not remove; their servers ended with them."""
    for folder in place.glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path) -> "subprocess.Popen[bytes]":
    """The server, once it has said that it is ready; after that it says next to nothing."""
    settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
    argv = [_program("postgres"), "-D", f"{folder}/data", "-k", str(folder), *settings]
    server = subprocess.Popen(
        _as_ordinary_user(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        said.append(line.decode(errors="replace"))
        if b"is ready to accept connections" in line:
            return server
    raise NoPostgresError("cannot start PostgreSQL: " + "".join(said[-3:]))


def _program(name: str) -> str:
    """Debian keeps the server's programs off PATH, by version."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    found = str(kept[-1]) if kept else shutil.which(name)
    if found is None:
        raise NoPostgresError("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return found


def _as_ordinary_user(argv: Sequence[str]) -> list[str]:
    """The server refuses root. It ends with the thread that started it, whatever ends that."""
    command = ["setpriv", "--pdeathsig=KILL"]
    if os.getuid() == 0:
        command += [f"--reuid={_user_for_root()}", f"--regid={_user_for_root()}", "--clear-groups"]
    return [*command, "--", *argv]


def _user_for_root() -> str:
    """Debian's package brings it."""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise NoPostgresError("PostgreSQL refuses to run as root, and there is no user 'postgres'") from None


def _run(argv: Sequence[str]) -> bytes:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise NoPostgresError(f"{argv[0]} failed: {said}")
    return done.stdout
