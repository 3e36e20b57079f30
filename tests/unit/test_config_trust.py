"""[trust] in agent.toml: one rule for each service, and no rule that nobody would ever ask."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.config import AgentConfig, find_trust_problems, load_config
from agent.trust import REVOKED_DIR, TRUSTED_DIR
from agent.verify import Verification, VerificationPolicy
from shared.settings import ConfigError
from tests.fakes.signing import Keys

TEXT = """
agent_id = "host-1"
{trust}
[[instance]]
id = "web-1"
service = "web"
root = "/srv/web-1"
driver = {{ type = "command", start = ["true"] }}
[[instance]]
id = "api-1"
service = "api"
root = "/srv/api-1"
driver = {{ type = "command", start = ["true"] }}
"""


def load(tmp_path: Path, trust: str) -> AgentConfig:
    file = tmp_path / "agent.toml"
    file.write_text(TEXT.format(trust=trust))
    return load_config(file, {})


def test_without_the_table_keys_in_etc_decide(tmp_path: Path) -> None:
    policy = load(tmp_path, "").trust.policy_for("web")
    assert policy == VerificationPolicy(TRUSTED_DIR, REVOKED_DIR)
    assert [str(one) for one in (TRUSTED_DIR, REVOKED_DIR)] == [
        "/etc/releasehand/trusted.d",
        "/etc/releasehand/revoked.d",
    ]
    assert policy.verification is None


def test_a_service_may_have_a_rule_of_its_own(tmp_path: Path) -> None:
    trust = load(
        tmp_path,
        """
        [trust]
        trusted_dir = "/keys/trusted"
        verification = "signature"
        min_signed_time = 2026-11-01T00:00:00Z
        [trust.service.api]
        verification = "digest"
        accept_sha256_file = true
        """,
    ).trust
    web, api = trust.policy_for("web"), trust.policy_for("api")
    assert web.trusted_dir == api.trusted_dir == Path("/keys/trusted")
    assert web.verification is Verification.SIGNATURE
    assert web.min_signed_time == datetime(2026, 11, 1, tzinfo=UTC)
    assert not web.accept_sha256_file
    assert api.verification is Verification.DIGEST
    assert api.accept_sha256_file


@pytest.mark.parametrize(
    ("trust", "where", "what"),
    [
        ('[trust]\nverification = "none"', "trust.verification", "'signature', 'digest' or 'tls'"),
        ("[trust]\nverify = true", "trust.verify", "unknown key"),
        ('[trust]\ntrusted_dir = "keys"', "trust.trusted_dir", "absolute"),
        ("[trust]\naccept_sha256_file = true", "trust", "no effect"),
        ("[trust]\nmin_signed_time = 2026-11-01T00:00:00Z", "trust", "no effect"),
        (
            '[trust]\nverification = "signature"\nmin_signed_time = 2026-11-01T00:00:00',
            "trust.min_signed_time",
            "timezone",
        ),
        ('[trust.service.wbe]\nverification = "signature"', "trust.service.wbe", "no instance here"),
        (
            '[trust.service.web]\nverification = "tls"\naccept_sha256_file = true',
            "trust",
            "service.web: accept_sha256_file has no effect",
        ),
    ],
)
def test_a_rule_that_would_not_do_what_it_says_is_refused(
    tmp_path: Path, trust: str, where: str, what: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, trust)
    [problem] = caught.value.problems
    assert problem.where == where
    assert what in problem.what


def trust_table(keys: Keys) -> str:
    return f'[trust]\ntrusted_dir = "{keys.trusted_dir}"\nrevoked_dir = "{keys.revoked_dir}"'


def test_a_bad_key_is_a_problem_to_tell_and_none_that_stops_the_agent(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.trust("release").write_text("oops")
    config = load(tmp_path, trust_table(keys))
    told = {problem.where: problem.what for problem in find_trust_problems(config)}
    assert told == {
        "trust.revoked_dir": f"{keys.revoked_dir} does not exist",
        str(keys.trusted_dir / "release.pub"): "holds no minisign public key: it has fewer than 2 lines",
    }
    answer = CliRunner().invoke(app, ["config", "check", "--config", str(tmp_path / "agent.toml")])
    assert answer.exit_code == 2
    assert all(where in answer.output for where in told)


def test_good_keys_are_no_problem(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.trust("release")
    keys.revoke("revoked")
    assert find_trust_problems(load(tmp_path, trust_table(keys))) == []
