"""The command line against a real HTTP server: output and exit codes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port
from typer.main import get_command

from releasehand.cli.__main__ import app
from releasehand.model import Status
from releasehand.shown import escape_controls
from tests.fakes.api import TOKEN, deployment, failed, refusal, rollback, task
from tests.fakes.shell import HOSTILE, PACKAGE, Shell, open_shell

pytestmark = pytest.mark.slow


@pytest.fixture
async def shell() -> AsyncIterator[Shell]:
    async with open_shell() as shell:
        yield shell


async def test_a_deployment_that_completes_exits_0_and_tells_each_change(shell: Shell) -> None:
    working = task("web-1", Status.IN_PROGRESS, phase="downloading", waiting_for="agent_working")
    offline = task("web-2", Status.PENDING, waiting_for="agent_offline", attempt=0)
    shell.api.deployments.extend(
        [
            deployment(Status.IN_PROGRESS, [working, offline]),
            deployment(Status.COMPLETED, [task("web-1"), task("web-2", result="already_active")]),
        ]
    )
    result = await shell.run("deploy", "shop", "v2", *PACKAGE, "-i", "web-1", "-i", "web-2", "--id", "d-1")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "deployment d-1: shop v2 on 2 instances",
        "web-1: downloading",
        "web-2: agent offline",
        "web-1: completed, runs v2",
        "web-2: completed, runs v2 already",
        "✓ Deployed shop v2 on 2 instances in 8.4 s  1 already ran it  deployment d-1",
    ]
    assert result.stderr == ""


async def test_a_deployment_that_fails_exits_1_and_says_why_and_what_next(shell: Shell) -> None:
    shell.api.deployments.append(deployment(Status.FAILED, [task("web-1"), failed("web-2")]))
    result = await shell.run("deploy", "shop", "v2", *PACKAGE, "--all-instances")
    assert result.exit_code == 1
    assert "✗ Deployment d-1 failed: 1 of 2 instances completed" in result.stdout
    assert "  web-2  failed, runs v1\n    check_failed: no answer on /health\n" in result.stdout
    assert "releasehand rollback shop previous -i web-1" in result.stdout


async def test_all_instances_are_found_page_by_page(shell: Shell) -> None:
    shell.api.instances = [f"web-{number}" for number in range(2_500)]
    result = await shell.run("deploy", "shop", "v2", *PACKAGE, "--all-instances", "--no-wait")
    assert result.exit_code == 0
    assert [call.path for call in shell.api.calls[:3]] == ["/v1/service/shop/instances"] * 3
    assert shell.api.calls[3].body["instances"] == shell.api.instances
    assert "Accepted deployment" in result.stdout
    assert "--wait" in result.stdout


@pytest.mark.parametrize(
    ("words", "timeout_s", "retry_count"),
    [((), 0, 0), (("--retries", "0", "--timeout", "60"), 60, -1), (("--retries", "2"), 0, 2)],
)
async def test_no_retries_are_said_as_the_interface_says_them(
    shell: Shell, words: tuple[str, ...], timeout_s: int, retry_count: int
) -> None:
    await shell.run(
        "deploy", "shop", "v2", *PACKAGE, "-i", "web-1", "--sha256", "a" * 64, "--no-wait", *words
    )
    [call] = shell.api.calls
    assert (call.body["timeout"], call.body["retry_count"]) == (timeout_s, retry_count)
    assert call.body["package_sha256"] == "a" * 64
    assert call.body["deploy_id"].startswith("shop-v2-")


async def test_one_instance_is_rolled_back_alone_and_several_as_a_batch(shell: Shell) -> None:
    one = await shell.run("rollback", "shop", "previous", "-i", "web-1", "--force")
    shell.api.rollbacks.clear()
    several = await shell.run("rollback", "shop", "v1", "-i", "web-1", "-i", "web-2")
    posts = [call for call in shell.api.calls if call.method == "POST"]
    assert (one.exit_code, several.exit_code) == (0, 0)
    assert [call.path for call in posts] == ["/v1/rollback/instance", "/v1/rollback/batch"]
    assert posts[0].body["force"] is True
    assert posts[1].body["instances"] == ["web-1", "web-2"]
    assert "✓ Rolled back shop to v2 on 1 instance in 8.4 s" in one.stdout


async def test_a_rollback_of_another_services_instance_is_refused_before_anything_happens(
    shell: Shell,
) -> None:
    result = await shell.run("rollback", "shopp", "v1", "-i", "web-1")
    assert result.exit_code == 2
    assert "web-1 belongs to shop, not to shopp" in result.stderr
    assert all(call.method == "GET" for call in shell.api.calls)


async def test_versions_are_a_table_with_a_sum(shell: Shell) -> None:
    result = await shell.run("versions", "shop", "--include-stopped")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0].split() == ["INSTANCE", "VERSION", "STATUS", "UPDATED", "(UTC)"]
    assert lines[1].split() == ["web-1", "v1", "running", "2026-03-01", "12:00:00"]
    assert lines[4].split()[:3] == ["web-x", "-", "stopped"]
    assert lines[5] == "4 instances: 3 on v1"


async def test_json_is_the_answer_alone_on_stdout_and_progress_goes_to_stderr(shell: Shell) -> None:
    shell.api.deployments.append(deployment(Status.FAILED, [failed("web-1", HOSTILE)]))
    result = await shell.run("deploy", "shop", "v2", *PACKAGE, "-i", "web-1", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["instances"][0]["error_message"] == HOSTILE
    assert result.stdout.isascii()
    assert "\x1b" not in result.stdout
    assert "web-1: failed" in result.stderr
    versions = await shell.run("versions", "shop", "--json")
    assert json.loads(versions.stdout)["total_instances"] == 3


async def test_control_characters_and_markup_from_the_server_are_shown_not_obeyed(shell: Shell) -> None:
    shell.api.deployments.append(deployment(Status.FAILED, [failed("web-1", HOSTILE)]))
    result = await shell.run("deploy", "shop", "v2", *PACKAGE, "-i", "web-1")
    assert r"cannot \x1b[31mread\x1b]0;title\x07\r\nnext\u202egnp [bold]x[/bold]" in result.stdout
    shell.api.instead.append(refusal(400, "invalid_request", HOSTILE))
    refused = await shell.run("versions", "shop")
    assert "\x1b" not in refused.stderr + result.stdout
    assert r"\u202egnp [bold]x[/bold]" in refused.stderr


async def test_an_ascii_output_gets_plain_signs_and_escapes_instead_of_a_crash(shell: Shell) -> None:
    shell.api.deployments.append(deployment(Status.FAILED, [failed("web-1", "版本")]))
    result = await shell.run("status", "d-1", charset="ascii")
    assert result.exit_code == 1
    assert "error: Deployment d-1 failed" in result.stdout
    assert r"check_failed: \u7248\u672c" in result.stdout


async def test_a_busy_instance_is_told_with_its_holder_and_a_way_on(shell: Shell) -> None:
    fault = {"pointer": "/instances/0", "detail": "web-1 is held by deployment d-0"}
    shell.api.instead.append(refusal(409, "instance_busy", "an instance is busy", errors=[fault]))
    result = await shell.run("deploy", "shop", "v2", *PACKAGE, "-i", "web-1")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "✗ An instance is busy" in result.stderr
    assert "/instances/0: web-1 is held by deployment d-0" in result.stderr
    assert "request r-1" in result.stderr
    assert "Wait for the other operation" in result.stderr


async def test_a_controller_that_is_not_there_exits_3(shell: Shell) -> None:
    server = f"http://127.0.0.1:{unused_port()}"
    result = await shell.run(
        "deploy", "shop", "v2", *PACKAGE, "-i", "web-1", "--id", "d-7", "--server", server
    )
    assert result.exit_code == 3
    assert f"Cannot reach the controller at {server}" in result.stderr
    assert "Connection refused" in result.stderr
    assert "Repeat with --id d-7: nothing is started twice." in result.stderr


async def test_a_refusal_after_the_acceptance_does_not_look_as_if_nothing_had_happened(shell: Shell) -> None:
    shell.api.deployments.append(deployment(Status.IN_PROGRESS, [task("web-1", Status.IN_PROGRESS)]))
    revoked = [refusal(401, "unauthenticated", "the token was revoked")]

    def revoke_once() -> None:
        shell.api.instead.extend(revoked)
        revoked.clear()

    shell.api.on_status = revoke_once
    result = await shell.run("deploy", "shop", "v2", *PACKAGE, "-i", "web-1", "--id", "d-1")
    assert result.exit_code == 3
    assert "The token was revoked" in result.stderr
    assert "The deployment goes on. See how it does: releasehand status d-1 --wait" in result.stderr


async def test_an_answer_from_something_else_exits_3(shell: Shell) -> None:
    shell.api.instead.append(web.Response(text="<html>\x1b[2Jwelcome"))
    result = await shell.run("versions", "shop")
    assert (result.exit_code, "The answer makes no sense" in result.stderr) == (3, True)
    assert r"<html>\x1b[2Jwelcome" in result.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("deploy", "shop", "v2", *PACKAGE), "Which instances?"),
        (("deploy", "shop", "v2", *PACKAGE, "-i", "a", "--all-instances"), "Which instances?"),
        (
            ("deploy", "shop", "v2", "--url", "http://p.example/x", "-i", "a"),
            "package_url: packages are fetched",
        ),
        (("deploy", "shop", "previous", *PACKAGE, "-i", "a"), "version: 'previous' is a word of the system"),
        (("deploy", "shop", "v2", *PACKAGE, "-i", "a", "--timeout", "0"), "timeout"),
        (("rollback", "shop", "v1"), "Which instances?"),
        (("status", ".."), "is no name"),
        (("deploy", "", "v2", *PACKAGE, "--all-instances"), "is no name"),
        (("deploy", "shop", "v2", "-i", "a"), "--url"),
        (("versions", "shop", "--server", "controller:8443"), "https://host:port"),
        (("versions", "shop", "--token-file", "/nowhere/token"), "No such file"),
        (("versions", "shop", "--ca-file", "/nowhere/ca.pem"), "No such file"),
    ],
)
async def test_a_wrong_command_exits_2_and_asks_the_controller_nothing(
    shell: Shell, words: tuple[str, ...], complaint: str
) -> None:
    result = await shell.run(*words)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert shell.api.calls == []


async def test_the_token_comes_from_a_file_or_the_environment_and_is_never_shown(
    shell: Shell, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text(TOKEN + "\n")
    secret.chmod(0o644)
    by_file = await shell.run("versions", "shop", "--token-file", str(secret), RELEASEHAND_TOKEN="wrong")
    assert by_file.exit_code == 0
    assert "chmod 600" in by_file.stderr
    secret.chmod(0o600)
    assert (await shell.run("versions", "shop", "--token-file", str(secret))).stderr == ""
    wrong = await shell.run("versions", "shop", RELEASEHAND_TOKEN="a-wrong-one")
    missing = await shell.run("versions", "shop", RELEASEHAND_TOKEN="")
    assert wrong.exit_code == missing.exit_code == 2
    assert "The token is not known" in wrong.stderr
    assert "No token was given" in missing.stderr
    shown = "".join(one.stdout + one.stderr for one in (by_file, wrong, missing))
    assert TOKEN not in shown
    assert "a-wrong-one" not in shown


async def test_status_and_cancel_find_an_operation_again(shell: Shell) -> None:
    tasks = [task("web-1"), task("web-2", Status.IN_PROGRESS, phase="checking")]
    shell.api.deployments.append(deployment(Status.IN_PROGRESS, tasks))
    shell.api.rollbacks.append(rollback(Status.COMPLETED, [task("web-1")]))
    status = await shell.run("status", "d-1")
    watched = await shell.run("status", "rb-1", "--rollback", "--wait")
    cancelled = await shell.run("cancel", "rb-1", "--rollback")
    assert [one.exit_code for one in (status, watched, cancelled)] == [0, 0, 0]
    assert "Deployment d-1 is in progress: 1 of 2 instances completed" in status.stdout
    assert "web-2  checking" in status.stdout
    assert "✓ Rolled back shop" in watched.stdout
    assert shell.api.calls[-1].path == "/v1/rollback/rb-1/cancel"


async def test_a_cancelled_deployment_exits_1(shell: Shell) -> None:
    shell.api.deployments.append(deployment(Status.CANCELLED, [task("web-1", Status.CANCELLED)]))
    assert (await shell.run("status", "d-1")).exit_code == 1


async def test_a_fleet_is_told_by_its_ends_alone(shell: Shell) -> None:
    names = [f"web-{number}" for number in range(150)]
    working = [task(name, Status.IN_PROGRESS, phase="downloading") for name in names]
    shell.api.deployments.append(deployment(Status.IN_PROGRESS, working))
    shell.api.deployments.append(deployment(Status.FAILED, [failed(name) for name in names]))
    result = await shell.run("status", "d-1", "--wait")
    assert "downloading" not in result.stdout
    assert "web-149: failed" in result.stdout
    assert "and 130 more; --json lists all" in result.stdout


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain é 版本 [x]", "plain é 版本 [x]"),
        ("a\x1bb\x9bc", r"a\x1bb\x9bc"),
        ("\t\u2028\ud800", r"\t\u2028\ud800"),
    ],
)
def test_what_cannot_be_printed_is_escaped(value: str, shown: str) -> None:
    assert escape_controls(value) == shown


def test_the_reference_names_every_command_and_option() -> None:
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) == {"deploy", "rollback", "versions", "status", "cancel"}
    for name, command in commands.items():
        assert f"releasehand {name} " in reference
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert [
                    word for word in (*parameter.opts, *parameter.secondary_opts) if word not in reference
                ] == []
