"""`releasehand-controller token`, as an administrator types it."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from controller.__main__ import app
from controller.core.audit import AuditFilter
from controller.core.lists import Page
from controller.core.token import digest_of
from controller.store import Store, open_store
from releasehand.model import ActorKind, AuditAction, AuditRecord, TokenStatus
from shared.clock import SystemClock
from tests.fakes.keys import KEYRING

SCOPES = ("--scope", "deploy:read", "--scope", "deploy:write")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "controller.toml"
    file.write_text(
        f"""database = "sqlite:///{tmp_path}/controller.db"
[api.tokens]
first = "a-token-that-is-long-enough"
[hub]
host = "127.0.0.1"
"""
    )
    return file


def token(config: Path, command: str, *words: str) -> Result:
    return CliRunner().invoke(app, ["token", command, "--config", str(config), *words])


def look(config: Path, token: str) -> tuple[TokenStatus | None, list[AuditRecord]]:
    """What the database says of a token, and the audit, oldest first."""

    async def ask() -> tuple[TokenStatus | None, list[AuditRecord]]:
        url = f"sqlite:///{config.parent}/controller.db"
        store: Store = await open_store(url, SystemClock(), KEYRING, beside=True)
        try:
            known = await store.find_token(digest_of(token))
            records = (await store.list_audit(AuditFilter(), Page())).records
            status = None if known is None else known.status(SystemClock().now())
            return status, list(reversed(records))
        finally:
            await store.close()

    return asyncio.run(ask())


def test_a_token_is_made_listed_and_revoked_without_a_controller(config: Path) -> None:
    made = token(config, "create", "ci", *SCOPES, "--service", "user-service", "--ttl", "90d")
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    assert (len(secret), secret[:4]) == (53, "rht_")
    assert "shown this once" in made.stderr
    listed = token(config, "list").stdout
    assert "in_force  ci: deploy:read, deploy:write of user-service, until" in listed
    assert secret not in listed
    assert look(config, secret)[0] is TokenStatus.IN_FORCE
    assert "is revoked" in token(config, "revoke", "ci").stdout
    status, records = look(config, secret)
    assert status is TokenStatus.REVOKED
    assert [one.action for one in records] == [AuditAction.CREATE_TOKEN, AuditAction.REVOKE_TOKEN]
    assert {one.actor_kind for one in records} == {ActorKind.LOCAL}
    assert all(one.actor for one in records)


@pytest.mark.parametrize(
    ("command", "words", "said", "code"),
    [
        ("create", ("first", *SCOPES), "the configuration has a caller of that name", 1),
        ("create", ("ci", "--scope", "all"), "deploy:read, deploy:write, agent:admin, token:admin", 2),
        ("create", ("ci", *SCOPES, "--ttl", "soon"), "like 1h or 90d", 2),
        ("create", ("-", *SCOPES), "name", 2),
        ("revoke", ("nobody",), "cannot find token 'nobody'", 1),
    ],
)
def test_what_cannot_be_done_is_told_in_words(
    config: Path, command: str, words: tuple[str, ...], said: str, code: int
) -> None:
    done = token(config, command, *words)
    assert done.exit_code == code
    assert said in " ".join(done.output.replace("│", " ").split())


def test_what_was_typed_reaches_no_terminal_as_codes(config: Path) -> None:
    refused = [
        CliRunner().invoke(app, [*words, "no\x1b[31m\nbody", "--config", str(config)], color=True)
        for words in (("token", "revoke"), ("join-token", "revoke"), ("agent", "revoke"))
    ]
    assert [run.exit_code for run in refused] == [1, 1, 1]
    assert [run.stderr.count("\n") for run in refused] == [1, 1, 1]
    assert not any("\x1b" in run.stderr for run in refused)


def test_what_cannot_be_is_said_without_the_words_of_a_library(config: Path) -> None:
    made = [
        CliRunner().invoke(app, [*words, "--config", str(config)])
        for words in (
            ("join-token", "create", "--host", "web 1"),
            ("join-token", "create", "--host", "web-1", "--max-uses", "2"),
            ("token", "create", "a b", "--scope", "deploy:read"),
        )
    ]
    assert [run.exit_code for run in made] == [2, 2, 2]
    assert not any("Value error" in run.stderr for run in made)
