"""`releasehand-controller token`: who may call the API. The commands open the database themselves."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from controller.desk_command import ConfigFile, bad_parameter, parse_ttl, run_at_desk

if TYPE_CHECKING:
    from controller.administration import Desk
    from controller.config import ControllerConfig
    from releasehand.model import Token

# Imports that cost time stand inside the commands: --help needs none of them.

token_app = typer.Typer(help="Tokens of those who call the API.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The caller's name, as the audit tells it.")]
SHOWN: Final = 1_000


@token_app.command("create")
def create(
    config: ConfigFile,
    name: Name,
    scope: Annotated[
        list[str],
        typer.Option(help="deploy:read, deploy:write, agent:admin or token:admin; repeat for more."),
    ],
    service: Annotated[
        list[str] | None,
        typer.Option(help="Limit deploy:read and deploy:write to this service; repeat for more."),
    ] = None,
    ttl: Annotated[str, typer.Option(help="How long it is good, like 12h or 90d; never ends without.")] = "",
) -> None:
    """Make a token and print it, once: only a digest of it is kept."""
    from pydantic import ValidationError

    from controller.core.token import TokenExistsError
    from releasehand.model import CreateTokenParams

    wish = {"name": name, "scopes": scope, "services": service or [], "ttl": parse_ttl(ttl) if ttl else 0}
    try:
        params = CreateTokenParams.model_validate(wish)
    except ValidationError as exc:
        raise bad_parameter(exc) from exc

    async def work(settings: "ControllerConfig", desk: "Desk") -> None:
        if name in settings.api.tokens or name in settings.api.token_files:
            raise TokenExistsError(name, "the configuration has a caller of that name")
        made = await desk.store.create_token(params, actor=desk.actor)
        typer.echo(f"{_describe(made)}. It is shown this once:", err=True)
        typer.echo(made.token)

    run_at_desk(config, work)


@token_app.command("list")
def list_(config: ConfigFile) -> None:
    """Show tokens, newest first, without their secrets."""

    async def work(_settings: "ControllerConfig", desk: "Desk") -> None:
        from controller.core.lists import Page

        found = await desk.store.list_tokens(None, Page(limit=SHOWN))
        for token in found.tokens:
            used = "never used"
            if token.last_used_at is not None:
                used = f"used {token.last_used_at:%Y-%m-%d %H:%M} UTC from {token.last_used_from}"
            typer.echo(f"{token.status:<8}  {_describe(token)}; {used}")
        if found.total > len(found.tokens):
            typer.echo(f"and {found.total - len(found.tokens)} older ones", err=True)

    run_at_desk(config, work)


@token_app.command("revoke")
def revoke(config: ConfigFile, name: Name) -> None:
    """Take a token out of force at once, for every controller on this database."""

    async def work(_settings: "ControllerConfig", desk: "Desk") -> None:
        revoked = await desk.store.revoke_token(name, actor=desk.actor)
        typer.echo(f"{name} is revoked since {revoked.revoked_at:%Y-%m-%d %H:%M:%S} UTC")

    run_at_desk(config, work)


def _describe(token: "Token") -> str:
    of = f" of {', '.join(token.services)}" if token.services else ""
    until = f"until {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at else "without end"
    return f"{token.name}: {', '.join(token.scopes)}{of}, {until}"
