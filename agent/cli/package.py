"""`releasehand-agent package …`: what the agent does with a package, as commands for those who make packages.

Nothing here needs a running agent or its configuration; the host's rules count where it has some.
"""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from releasehand.shown import escape_controls

if TYPE_CHECKING:
    from agent.config import AgentConfig
    from agent.download import Download
    from agent.unpack import Limits, UnpackResult
    from agent.verify import FetchSidecar, Request

# Imports that cost time stand inside the commands, as in agent.cli.app.

package_app = typer.Typer(no_args_is_help=True, help="Try a package as the agent would install it.")

REFUSED: Final = 1
WRONG_USE: Final = 2
_DEFAULT_CONFIG: Final = Path("/etc/releasehand/agent.toml")
_MOST_SIDECAR_BYTES: Final = 8 * 1024

LimitBytes = Annotated[
    int | None, typer.Option("--limit-bytes", min=1, help="Refuse a package with more content than this.")
]
LimitEntries = Annotated[
    int | None, typer.Option("--limit-entries", min=1, help="Refuse a package with more files than this.")
]


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", readable=False, help="The agent.toml whose rules and limits count."),
]


@package_app.command()
def unpack(
    file: Annotated[Path, typer.Argument(help="The package: .tar, .tar.gz, .tar.zst, .tar.xz or .zip.")],
    dest: Annotated[Path, typer.Argument(help="An empty directory, made where missing.")],
    config: ConfigFile = None,
    limit_bytes: LimitBytes = None,
    limit_entries: LimitEntries = None,
) -> None:
    """Unpack FILE into DEST. Exit code 0, or 1 with the reason: then DEST is empty.

    The limits are those of --config, of /etc/releasehand/agent.toml where that can be read, or the defaults;
    an option counts before all of them."""
    limits = _limits(_load_settings(config), limit_bytes, limit_entries)
    with _refusals():
        dest.mkdir(mode=0o755, exist_ok=True)
        counts = asyncio.run(_unpack_file(file, dest.resolve(), limits))  # who names a link means its end
    typer.echo(f"unpacked {_describe(counts)}")


@package_app.command()
def verify(
    package: Annotated[str, typer.Argument(help="A file, or the https URL of one.", metavar="FILE|URL")],
    service: Annotated[str, typer.Option(help="The service that it is for; a signature names one.")] = "",
    version: Annotated[str, typer.Option(help="The version that it is; a signature names one.")] = "",
    sha256: Annotated[str, typer.Option(help="The digest that it must have.")] = "",
    config: ConfigFile = None,
    limit_bytes: LimitBytes = None,
    limit_entries: LimitEntries = None,
) -> None:
    """Check digest and signature as this host would, then unpack to nowhere. Exit code 0, or 1: refused.

    The signature is looked for beside the package (FILE.minisig or URL.minisig). The rules are those of
    --config, of /etc/releasehand/agent.toml where that can be read, or the defaults."""
    if sha256 and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        typer.echo("--sha256 must be 64 hexadecimal digits", err=True)
        raise typer.Exit(WRONG_USE)
    from agent.verify import Request

    settings = _load_settings(config)
    limits = _limits(settings, limit_bytes, limit_entries)
    request = Request(service=service, version=version, url=package, sha256=sha256)
    with _refusals():
        digest, counts = asyncio.run(_verify(package, request, settings, limits))
    typer.echo(f"accepted: sha256 {digest}, {_describe(counts)}")


def _describe(counts: "UnpackResult") -> str:
    entries = "1 entry" if counts.entries == 1 else f"{counts.entries} entries"
    return f"{entries}, {counts.total_bytes} bytes"


async def _unpack_file(file: Path, dest: Path, limits: "Limits") -> "UnpackResult":
    from agent.disk import empty_directory
    from agent.unpack import unpack

    with file.open("rb") as package:
        try:
            return await unpack(package, dest, limits)
        except asyncio.CancelledError:
            empty_directory(dest)
            raise


async def _verify(
    name: str, request: "Request", settings: "AgentConfig | None", limits: "Limits"
) -> tuple[str, "UnpackResult"]:
    from agent.unpack import unpack
    from agent.verify import VerificationPolicy, verify_package

    trust = settings.trust.policy_for(request.service) if settings else VerificationPolicy()
    with tempfile.TemporaryDirectory(prefix="releasehand-package-") as made:
        async with _obtain(name, Path(made) / "packages", settings) as (package, fetch_sidecar):
            await verify_package(package, request, trust, fetch_sidecar)
            dest = Path(made) / "unpacked"
            dest.mkdir(mode=0o700)
            return package.sha256, await unpack(package.file, dest, limits)


@asynccontextmanager
async def _obtain(
    name: str, directory: Path, settings: "AgentConfig | None"
) -> AsyncIterator[tuple["Download", "FetchSidecar"]]:
    """Yield the package and how to get what lies beside it."""
    from agent.download import Download, Downloader, DownloadPolicy
    from shared.clock import SystemClock

    if name.startswith(("https:", "http:")):
        policy = settings.packages.policy() if settings else DownloadPolicy()
        downloader = Downloader(directory, policy=policy, clock=SystemClock())
        try:
            await downloader.clear()
            package = await downloader.fetch(name, progress=lambda _done, _total: None)
            try:
                yield package, downloader.fetch_sidecar
            finally:
                package.close()
        finally:
            await downloader.close()
        return
    path = Path(name)
    with path.open("rb") as file:  # noqa: ASYNC230
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        yield Download(file, path, sha256, os.fstat(file.fileno()).st_size), _read_sidecar


async def _read_sidecar(name: str, suffix: str) -> bytes:
    """What agent.download.sidecar is for a URL."""
    from agent.errors import DownloadTooLargeError, OriginRefusedError

    path = Path(name + suffix)
    try:
        with path.open("rb") as file:  # noqa: ASYNC230
            content = file.read(_MOST_SIDECAR_BYTES + 1)
    except FileNotFoundError as exc:
        raise OriginRefusedError(str(path), "there is no such file") from exc
    if len(content) > _MOST_SIDECAR_BYTES:
        raise DownloadTooLargeError(str(path), f"it is larger than {_MOST_SIDECAR_BYTES} bytes")
    return content


def _limits(settings: "AgentConfig | None", most_bytes: int | None, most_entries: int | None) -> "Limits":
    from agent.unpack import Limits

    limits = settings.unpack.limits() if settings else Limits()
    return limits.allowing(
        total_bytes=most_bytes or limits.total_bytes, entries=most_entries or limits.entries
    )


def _load_settings(config: Path | None) -> "AgentConfig | None":
    """The host's rules; None where this host has none that this user may read. The other files that they
    name, such as the agent's token, need not be readable."""
    file = config or _DEFAULT_CONFIG
    if config is None and not os.access(file, os.R_OK):
        with suppress(FileNotFoundError, NotADirectoryError):
            _say_unreadable(file)
        return None
    from agent.config import read_config
    from shared.settings import ConfigError

    try:
        return read_config(file, os.environ)
    except ConfigError as exc:
        typer.echo(f"{file} cannot be used:", err=True)
        for problem in exc.problems:
            typer.echo(escape_controls(f"  {problem}"), err=True)
        raise typer.Exit(WRONG_USE) from None


def _say_unreadable(file: Path) -> None:
    """Raises FileNotFoundError, NotADirectoryError where there is nothing to be read."""
    with suppress(PermissionError):  # of a folder above: there may be something
        file.stat()
    typer.echo(f"{file} cannot be read by this user: the default rules count", err=True)


@contextmanager
def _refusals() -> Iterator[None]:
    """Say why not on stderr, with the code that the controller would get, and end with REFUSED."""
    from agent.errors import disk_errors
    from shared.errors import AttemptError

    try:
        with disk_errors(Path()):
            yield
    except AttemptError as exc:
        typer.echo(escape_controls(f"{exc.code}: {exc}"), err=True)
        raise typer.Exit(REFUSED) from None
