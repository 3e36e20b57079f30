"""`releasehand-agent releases …`: what is kept on this host, for the people who look after it.

These work while the agent runs: both change its journal by short transactions, and what one has removed or
pinned the other finds so (agent.journal.shelf)."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from releasehand.shown import escape_controls

if TYPE_CHECKING:
    from agent.config import AgentConfig
    from agent.core.retention import Stored
    from agent.instance_config import InstanceSection
    from agent.journal import ReleaseRow
    from agent.switch import InstallRoot, KeptRelease

# Imports that cost time stand inside the commands, as in agent.cli.app.

releases_app = typer.Typer(no_args_is_help=True, help="Look at the releases kept here, pin and remove them.")

FAILED: Final = 1
WRONG_USE: Final = 2

ConfigFile = Annotated[Path, typer.Option("--config", "-c", readable=False, help="The agent's TOML file.")]
DEFAULT_CONFIG = Path("/etc/releasehand/agent.toml")
Instance = Annotated[str, typer.Argument(help="The id of an instance.", metavar="INSTANCE")]
AnyInstance = Annotated[
    str, typer.Argument(help="The id of an instance; all without it.", metavar="INSTANCE")
]
Release = Annotated[
    str,
    typer.Argument(help="The name of a release, or its version where only one has it.", metavar="RELEASE"),
]


@releases_app.command("list")
def list_releases(instance: AnyInstance = "", config: ConfigFile = DEFAULT_CONFIG) -> None:
    """List every release on the disk, the newest first, and what is known of it."""
    from agent.retention import list_stored, tree_bytes

    settings = _load(config)
    lines = [("INSTANCE", "RELEASE", "VERSION", "STATE", "KEPT AS", "MIB")]
    empty = []
    with _errors():
        for section, root in _chosen(settings, instance):
            kept = {one.name: one for one in root.releases()} if _is_made(root) else {}
            if not kept:
                empty.append(section.id)
                continue
            sizes = {name: tree_bytes(root.release_path(name)) for name in kept}
            with _open_rows(settings, section.id) as rows:
                stored = list_stored(list(kept), rows, sizes)
                current = root.current_link().name or ""
            for one in sorted(stored, key=lambda one: (one.activated, one.installed), reverse=True):
                version, size = kept[one.name].version, f"{one.size_bytes / 2**20:.1f}"
                kept_as = _kept_as(one, stored, current)
                lines.append((section.id, one.name, version, _state(one), kept_as, size))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines if len(lines) > 1 else []:
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        typer.echo(escape_controls("  ".join(cells).rstrip()))
    for name in empty:
        typer.echo(f"{name}: no release is kept here")


@releases_app.command()
def pin(instance: Instance, release: Release, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Keep RELEASE until it is unpinned, whatever comes after it. Safe to repeat."""
    _set_pinned(config, instance, release, pinned=True)


@releases_app.command()
def unpin(instance: Instance, release: Release, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let RELEASE go when newer ones take its place. Safe to repeat."""
    _set_pinned(config, instance, release, pinned=False)


@releases_app.command()
def prune(
    instance: AnyInstance = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Remove now what the agent would remove after the next deployment, and say why.

    An instance that is being worked on is left alone."""
    from agent import retention
    from agent.journal import open_shelf

    settings = _load(config)
    with _errors():
        for section, root in _chosen(settings, instance):
            if not _is_made(root):
                typer.echo(f"{section.id}: nothing to remove")
                continue
            sizes = retention.measure(root, section)
            with open_shelf(_journal(settings), section.id) as shelf:
                if shelf.unfinished():
                    typer.echo(f"{section.id}: is being worked on; its agent removes what may go afterwards")
                    continue
                if dry_run:
                    removals = retention.plan(root, section, shelf, sizes)
                    doomed = []
                else:
                    gone = retention.put_away(root, section, shelf, sizes)
                    removals, doomed = [one for one, _ in gone], [directory for _, directory in gone]
            retention.delete(doomed)
            for removal in removals:
                verb = "would remove" if dry_run else "removed"
                typer.echo(escape_controls(f"{section.id}: {verb} {removal.name}: {removal.reason}"))
            if not removals:
                typer.echo(f"{section.id}: nothing to remove")


def _set_pinned(config: Path, instance_id: str, release: str, *, pinned: bool) -> None:
    from agent.journal import open_shelf

    settings = _load(config)
    [(section, root)] = _chosen(settings, instance_id)
    with _errors(), open_shelf(_journal(settings), section.id) as shelf:
        found = _find(root, release)
        shelf.pin(found.name, version=found.version, sha256=found.sha256, pinned=pinned)
    typer.echo(f"{section.id}: {escape_controls(found.name)} is {'pinned' if pinned else 'not pinned'}")


def _find(root: "InstallRoot", wanted: str) -> "KeptRelease":
    kept = root.releases()
    by_name = [one for one in kept if one.name == wanted]
    found = by_name or [one for one in kept if one.version == wanted]
    if len(found) == 1:
        return found[0]
    if not found:
        _fail(f"no release {wanted} is kept below {root.path}; there is {_names(kept) or 'none'}", FAILED)
    return _fail(f"{wanted} can be {_names(found)}: give the name of the release", WRONG_USE)


def _names(kept: "Sequence[KeptRelease]") -> str:
    return ", ".join(one.name for one in kept)


def _state(release: "Stored") -> str:
    return {True: "good", False: "failed", None: "untried"}[release.good]


def _kept_as(release: "Stored", stored: "Sequence[Stored]", current: str) -> str:
    from agent.core.retention import find_previous

    words = [
        "active" if release.name == current else "",
        "previous" if release.name in find_previous(stored, current) else "",
        "pinned" if release.pinned else "",
    ]
    return ", ".join(filter(None, words)) or "-"


def _chosen(settings: "AgentConfig", instance_id: str) -> "list[tuple[InstanceSection, InstallRoot]]":
    from agent.switch import InstallRoot

    found = [one for one in settings.instance if instance_id in {"", one.id}]
    if not found and not instance_id:
        typer.echo("no instance is configured here", err=True)
    elif not found:
        known = ", ".join(one.id for one in settings.instance) or "none"
        _fail(f"no instance {instance_id} is configured here; there is {known}", WRONG_USE)
    return [(one, InstallRoot(one.root)) for one in found]


def _is_made(root: "InstallRoot") -> bool:
    """Whether anything was ever installed there."""
    return (root.path / "releases").is_dir()


@contextmanager
def _open_rows(settings: "AgentConfig", instance_id: str) -> "Iterator[list[ReleaseRow]]":
    """What is written down of the kept releases; nothing where no agent has run yet. While it is open, none
    of them is removed."""
    from agent.journal import open_shelf

    if not _journal(settings).exists():
        yield []
        return
    with open_shelf(_journal(settings), instance_id) as shelf:
        yield shelf.rows()


def _journal(settings: "AgentConfig") -> Path:
    from agent.journal import JOURNAL_NAME

    return settings.state_dir / JOURNAL_NAME


def _load(config: Path) -> "AgentConfig":
    from agent.config import load_config
    from shared.settings import ConfigError

    try:
        return load_config(config, os.environ)
    except ConfigError as exc:
        problems = (escape_controls(str(one)) for one in exc.problems)
        typer.echo("\n  ".join([escape_controls(f"{config} cannot be used:"), *problems]), err=True)
        raise typer.Exit(WRONG_USE) from None


@contextmanager
def _errors() -> Iterator[None]:
    from shared.errors import ReleasehandError

    try:
        yield
    except ReleasehandError as exc:
        _fail(str(exc), FAILED)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(escape_controls(message), err=True)
    raise typer.Exit(code)
