"""`releasehand-controller join-token` and `agent`: who may be an agent. They open the database themselves."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from controller.desk_command import ConfigFile, bad_parameter, parse_ttl, run_at_desk

if TYPE_CHECKING:
    from controller.administration import Desk
    from controller.config import ControllerConfig

# Imports that cost time stand inside the commands: --help needs none of them.

join_token_app = typer.Typer(help="Leave to join, for hosts without a certificate.", no_args_is_help=True)
agent_app = typer.Typer(help="Agents that have joined.", no_args_is_help=True)


@join_token_app.command("create")
def create(
    config: ConfigFile,
    host: Annotated[str, typer.Option(help="The agent id that it is for. One that exists is replaced.")] = "",
    max_uses: Annotated[int, typer.Option(help="For so many agents that nobody knows yet.")] = 0,
    ttl: Annotated[str, typer.Option(help="How long it is good, like 30m, 1h or 7d.")] = "1h",
) -> None:
    """Print a join token, once, and the command that uses it on the host."""
    from pydantic import ValidationError

    from controller.invitation import make_invitations
    from controller.pki import open_authorities
    from releasehand.model import JoinTokenParams

    try:
        params = JoinTokenParams(host=host, max_uses=max_uses, ttl=parse_ttl(ttl))
    except ValidationError as exc:
        raise bad_parameter(exc) from exc

    async def work(settings: "ControllerConfig", desk: "Desk") -> None:
        authorities = await asyncio.to_thread(open_authorities, settings.pki.directory, desk.now)
        invitations = make_invitations(settings, desk.store, authorities.shown)
        made = await invitations.create(params, actor=desk.actor)
        token = made.join_token
        whom = f"agent {token.host}" if token.host else f"{token.max_uses} new agent(s)"
        typer.echo(f"{token.token_id}, for {whom}, until {token.expires_at:%Y-%m-%d %H:%M:%S} UTC:", err=True)
        typer.echo(made.token)
        typer.echo(f"on the host: {made.command}", err=True)
        if made.install_command:
            typer.echo(f"or, where no agent is installed, as root: {made.install_command}", err=True)

    run_at_desk(config, work)


@join_token_app.command("list")
def list_(config: ConfigFile) -> None:
    """Show the newest hundred; secrets are not kept."""

    async def work(_settings: "ControllerConfig", desk: "Desk") -> None:
        from controller.core.lists import Page

        found = await desk.store.list_join_tokens(Page())
        for one in found.join_tokens:
            uses = f"{one.uses} of {one.max_uses} used"
            until = f"until {one.expires_at:%Y-%m-%d %H:%M:%S} UTC"
            typer.echo(f"{one.token_id}  {one.state:<8} {one.host or '(any new)':<24} {uses:<14} {until}")
        if found.total > len(found.join_tokens):
            typer.echo(f"and {found.total - len(found.join_tokens)} older ones", err=True)

    run_at_desk(config, work)


@join_token_app.command("revoke")
def revoke(config: ConfigFile, token_id: Annotated[str, typer.Argument(help="As list shows it.")]) -> None:
    """Let nobody join with it any more. Agents that did stay."""

    async def work(_settings: "ControllerConfig", desk: "Desk") -> None:
        revoked = await desk.store.revoke_join_token(token_id, actor=desk.actor)
        typer.echo(f"{revoked.token_id} is revoked; {revoked.uses} agent(s) joined with it")

    run_at_desk(config, work)


@agent_app.command("revoke")
def revoke_agent(
    config: ConfigFile,
    agent_id: Annotated[str, typer.Argument(help="The agent to shut out.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "",
) -> None:
    """Shut an agent out: no certificate of it counts any more, and its link is closed within seconds."""

    async def work(_settings: "ControllerConfig", desk: "Desk") -> None:
        result = await desk.store.revoke_agent(agent_id, reason[:256], actor=desk.actor)
        count = result.revoked_certificates
        told = f"{count} certificate(s) revoked" if count else "no certificate of it was in force"
        typer.echo(f"{agent_id}: {told}; to let it back in: join-token create --host {agent_id}")

    run_at_desk(config, work)
