"""`releasehand-agent`: the command line of the daemon on a host."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agent.cli.package import package_app
from agent.cli.releases import releases_app
from agent.start import BAD_CONFIG, DEFAULT_CONFIG, run_daemon, tell_problems

# Imports that cost time stand inside the commands: --help and completion need none of them.

app = typer.Typer(
    name="releasehand-agent", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")
app.add_typer(config_app, name="config")
app.add_typer(package_app, name="package")
app.add_typer(releases_app, name="releases")

ConfigFile = Annotated[Path, typer.Option("--config", "-c", readable=False, help="The agent's TOML file.")]


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"releasehand-agent {version('releasehand-daemons')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Install releases on this host as a releasehand controller says, and tell it what is live."""


@app.command()
def run(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Run in the foreground until SIGTERM or SIGINT. Services stay up when the agent stops."""
    raise typer.Exit(run_daemon(config))


@app.command()
def join(
    url: Annotated[str, typer.Option(help="The controller's agent port: wss://HOST:PORT.")],
    token_file: Annotated[Path, typer.Option(help="A file with the join token; - reads standard input.")],
    config: ConfigFile = DEFAULT_CONFIG,
    agent_id: Annotated[
        str, typer.Option(help="The name to ask for, where neither token nor agent.toml say one.")
    ] = "",
    state_dir: Annotated[
        Path | None, typer.Option(help="Where the identity goes; left out: what the configuration says.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Give up what this host joined before.")] = False,
) -> None:
    """Make this host an agent of a controller: it gets a certificate for a key that never leaves it.

    The controller must be the one that the token names, or the token is not sent. Safe to repeat."""
    from agent.cli.join import run_join

    raise typer.Exit(run_join(url, token_file, config, agent_id, state_dir, again=again))


@app.command()
def leave(
    config: ConfigFile = DEFAULT_CONFIG,
    state_dir: Annotated[
        Path | None, typer.Option(help="Where the identity is; left out: what the configuration says.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the controller; it has to be told there.")
    ] = False,
) -> None:
    """Make this host an agent no more: its certificates are revoked, its instances released.

    The agent must be stopped. Deployed software and the journal stay; joining again needs a new join token.
    When the controller is away nothing is changed. Safe to repeat."""
    from agent.cli.leave import run_leave

    raise typer.Exit(run_leave(config, state_dir, offline=offline))


@app.command()
def status(
    config: ConfigFile = DEFAULT_CONFIG,
    wait: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Wait until the agent is online, e.g. 60s; exit code 1: it is not."
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, whose fields are stable.")] = False,
) -> None:
    """Show what is deployed here, the last tasks and how the link to the controller is.

    Read from this host alone: it works while the controller is away and while the agent is stopped."""
    from agent.cli.status import parse_span, run_status

    try:
        wait_s = parse_span(wait) if wait else None
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--wait") from exc
    raise typer.Exit(run_status(config, wait_s=wait_s, as_json=as_json))


@app.command()
def doctor(
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, whose fields are stable.")] = False,
) -> None:
    """Examine this host: configuration, identity, the way to the controller, clock, disks, roots and units.

    Nothing is changed. Each finding says how to mend it. Exit code 1: there is a problem. Run it as root."""
    from agent.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(config, as_json=as_json))


@config_app.command("check")
def check(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Read file, environment and trusted keys; print every problem. Exit code 0: usable, 2: not."""
    import os

    from agent.config import find_trust_problems, load_config
    from shared.settings import ConfigError

    try:
        settings = load_config(config, os.environ)
    except ConfigError as exc:
        _give_up(config, exc.problems)
    if problems := find_trust_problems(settings):
        _give_up(config, problems)
    who = f"agent {settings.agent_id}" if settings.agent_id else "an agent"
    count = f"{len(settings.instance)} instance(s)" if settings.instance else "no instance as yet"
    typer.echo(f"{config}: fine; {who} with {count}")


@config_app.command("polkit")
def polkit(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Print the polkit rule that an agent without root needs, for the units of the instances.

    It belongs into /etc/polkit-1/rules.d/50-releasehand-agent.rules. Exit code 2: the file is not usable."""
    import os

    from agent.cli.polkit import find_units, write_rules
    from agent.config import read_config
    from shared.settings import ConfigError

    try:
        settings = read_config(config, os.environ)
    except ConfigError as exc:
        _give_up(config, exc.problems)
    typer.echo(write_rules(find_units(settings)), nl=False)


@config_app.command("show")
def show(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Print what is in effect, as TOML: file, credentials and environment together, and where each is from.

    Secrets are masked. Exit code 2: it cannot be used."""
    import os

    from agent.config import ENVIRONMENT_PREFIX, read_config
    from shared.settings import ConfigError, read_written
    from shared.settings_page import write_page

    try:
        settings = read_config(config, os.environ)
        written = read_written(file=config, environment=os.environ, prefix=ENVIRONMENT_PREFIX)
    except ConfigError as exc:
        _give_up(config, exc.problems)
    typer.echo(write_page(settings, written), nl=False)


@config_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of agent.toml, for editors."""
    import json

    from agent.config import AgentConfig
    from shared.settings_schema import make_schema

    typer.echo(json.dumps(make_schema(AgentConfig, "agent.toml of releasehand"), indent=2))


def _give_up(config: Path, problems: Sequence[object]) -> NoReturn:
    tell_problems(config, problems)
    raise typer.Exit(BAD_CONFIG)
