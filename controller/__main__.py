"""The command `releasehand-controller`. Heavy imports stand inside the commands: `--help` answers at once."""

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.agent_commands import agent_app, join_token_app
from controller.desk_command import ConfigFile, fail
from controller.token_commands import token_app

if TYPE_CHECKING:
    from controller.pki import Authority

app = typer.Typer(
    help="The releasehand controller.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback goes to the log as it is
)
config_app = typer.Typer(help="Look at a configuration without starting anything.", no_args_is_help=True)
app.add_typer(config_app, name="config")

pki_app = typer.Typer(
    help="The authority that signs agents' certificates and the hub's.", no_args_is_help=True
)
app.add_typer(pki_app, name="pki")
app.add_typer(token_app, name="token")
app.add_typer(join_token_app, name="join-token")
app.add_typer(agent_app, name="agent")


@app.command()
def serve(config: ConfigFile) -> None:
    """Run the controller until SIGTERM.

    Exit code 2: it cannot use the configuration or the database, and another start would not help."""
    import asyncio

    from controller.app import serve_until_told
    from controller.config import load_config
    from controller.core.refusals import NewerSchemaError, StoreUnavailableError
    from controller.pki import AuthorityError
    from shared.logs import configure_logs
    from shared.sealing import KeyFileError
    from shared.settings import ConfigError

    try:
        settings = load_config(config, os.environ)
        configure_logs(settings.log_format, program="releasehand-controller")
        asyncio.run(serve_until_told(settings))
    except ConfigError as exc:
        fail(str(exc), 2, keep="\n")
    except NewerSchemaError as exc:
        fail(f"cannot start: {exc}", 2)
    except (StoreUnavailableError, AuthorityError, KeyFileError, OSError) as exc:
        fail(f"cannot start: {exc}", 1)


@config_app.command()
def check(config: ConfigFile) -> None:
    """Say everything that is wrong with a configuration; exit 0 if nothing is, 2 if something is."""
    from controller.config import find_risks, load_config
    from shared.settings import ConfigError

    try:
        settings = load_config(config, os.environ)
    except ConfigError as exc:
        fail(str(exc), 2, keep="\n")
    for risk in find_risks(settings):
        typer.echo(f"warning: {risk}")
    typer.echo(f"{config}: good")


@config_app.command()
def show(config: ConfigFile) -> None:
    """Print what is in effect, as TOML: file, credentials and environment together, and where each is from.

    Secrets are masked. Exit code 2: it cannot be used."""
    from controller.config import ENVIRONMENT_PREFIX, load_config
    from shared.settings import ConfigError, read_written
    from shared.settings_page import write_page

    try:
        settings = load_config(config, os.environ)
        written = read_written(file=config, environment=os.environ, prefix=ENVIRONMENT_PREFIX)
    except ConfigError as exc:
        fail(str(exc), 2, keep="\n")
    typer.echo(write_page(settings, written), nl=False)


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of controller.toml, for editors."""
    import json

    from controller.config import ControllerConfig
    from shared.settings_schema import make_schema

    typer.echo(json.dumps(make_schema(ControllerConfig, "controller.toml of releasehand"), indent=2))


@pki_app.command("init")
def init_pki(config: ConfigFile) -> None:
    """Make the authority, unless it exists: then nothing changes. The first start does it too."""
    from controller.pki import open_authority

    _show_authority(config, open_authority)


@pki_app.command("show")
def show_pki(config: ConfigFile) -> None:
    """Tell which authority this is, and until when."""
    from controller.pki import read_authority

    _show_authority(config, read_authority)


@pki_app.command("rotate")
def rotate_pki(
    config: ConfigFile,
    finish: Annotated[bool, typer.Option("--finish", help="Drop the old authority.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also while agents know no other.")] = False,
) -> None:
    """Put a new authority in the place of the old one: both count until it is run again with --finish."""
    import asyncio

    from controller.config import load_config
    from controller.rotation import rotate
    from shared.errors import ReleasehandError
    from shared.settings import ConfigError

    try:
        typer.echo(asyncio.run(rotate(load_config(config, os.environ), finish=finish, force=force)))
    except ConfigError as exc:
        fail(str(exc), 2, keep="\n")
    except (ReleasehandError, OSError) as exc:
        fail(str(exc), 1)


def _show_authority(config: Path, take: Callable[[Path, datetime], "Authority"]) -> None:
    from controller.config import load_config
    from controller.pki import AuthorityError
    from shared.clock import SystemClock
    from shared.settings import ConfigError

    try:
        settings = load_config(config, os.environ)
        authority = take(settings.pki.directory, SystemClock().now())
    except ConfigError as exc:
        fail(str(exc), 2, keep="\n")
    except AuthorityError as exc:
        fail(str(exc), 1)
    certificate = authority.certificate
    typer.echo(f"folder     {settings.pki.directory}")
    typer.echo(f"name       {certificate.subject.rfc4514_string()}")
    typer.echo(f"key hash   {authority.key_hash}")
    typer.echo(f"good until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    for other in authority.other_key_hashes:
        typer.echo(f"beside it  {other}, until pki rotate --finish")


@app.command("try")
def try_(
    api_port: Annotated[int, typer.Option(help="Of the HTTP API; 0 takes any free one.")] = 8080,
    hub_port: Annotated[int, typer.Option(help="For agents; 0 takes any free one.")] = 8443,
) -> None:
    """Run a controller with embedded defaults on this machine, for trying things by hand."""
    import asyncio

    from controller.trial import try_out
    from shared.logs import configure_logs

    configure_logs("text")
    try:
        asyncio.run(try_out(api_port, hub_port))
    except OSError as exc:
        fail(f"cannot start: {exc}; try --api-port 0 --hub-port 0", 1)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(installed("releasehand-daemons"))


def main() -> None:
    """The console script."""
    app(prog_name="releasehand-controller")


if __name__ == "__main__":
    main()
