"""A host with a pinned key, from command to outcome: every way to be no package of that key is refused with a
code of its own, and no archive reader is started for it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.errors import DownloadFailedError, DownloadTooLargeError, OriginRefusedError
from agent.verify import Verification
from releasehand.model.codes import TRANSIENT, FailureCode
from releasehand.model.status import Phase, TaskResult
from shared.errors import AttemptError
from shared.frames import Move
from tests.fakes.archives import file, tgz
from tests.fakes.host import Host, deploy, rollback, url_of
from tests.fakes.signing import PACKAGE, SHA256, Keys, signature

PLACE = url_of("v1").partition("?")[0]
SIGNED_AT = datetime(2026, 11, 21, 10, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
async def host(tmp_path: Path, keys: Keys) -> AsyncIterator[Host]:
    """A host that trusts the key `release`, and an origin that has the signed package and its signature."""
    keys.trust("release")
    host = Host(tmp_path)
    host.fetcher.packages[url_of("v1")] = PACKAGE
    host.fetcher.sidecars[f"{PLACE}.minisig"] = signature("good")
    async with host.boot():
        yield host


async def phases(host: Host) -> list[Phase]:
    return [move.entered for move in await host.moves()]


async def assert_refused(host: Host, end: Move, code: FailureCode) -> None:
    """Refused with this code, and no archive reader was ever started."""
    assert end.end is not None
    assert end.end.code is code
    assert end.left is Phase.VERIFYING
    assert Phase.UNPACKING not in await phases(host)
    assert list((host.root / "releases").iterdir()) == []
    assert host.left_over() == []
    assert "signature=secret" not in end.model_dump_json()


async def test_a_package_with_a_good_signature_is_installed(host: Host) -> None:
    end = await host.carry_out(deploy("v1", 1))
    assert end.entered is Phase.DONE
    assert host.live_version == "v1"


@dataclass(frozen=True)
class Trick:
    """One way to be no package of the pinned key."""

    code: FailureCode
    sidecar: bytes | AttemptError = field(default_factory=lambda: signature("good"))
    package: bytes = PACKAGE
    revoke: str = ""
    scope: str = ""


TRICKS = {
    "unsigned": Trick(
        FailureCode.SIGNATURE_MISSING, OriginRefusedError(f"{PLACE}.minisig", "the origin answered 404")
    ),
    "a large page instead": Trick(
        FailureCode.SIGNATURE_MALFORMED, DownloadTooLargeError(f"{PLACE}.minisig", "it is larger")
    ),
    "truncated": Trick(FailureCode.SIGNATURE_MALFORMED, signature("good")[:-40]),
    "empty": Trick(FailureCode.SIGNATURE_MALFORMED, b""),
    "legacy": Trick(FailureCode.SIGNATURE_LEGACY, signature("legacy")),
    "wrong key": Trick(FailureCode.SIGNATURE_UNTRUSTED_KEY, signature("stranger")),
    "key of another service": Trick(FailureCode.SIGNATURE_KEY_OUT_OF_SCOPE, scope="services=api"),
    "revoked key": Trick(FailureCode.SIGNATURE_REVOKED_KEY, signature("revoked"), revoke="revoked"),
    "revoked and trusted key": Trick(FailureCode.SIGNATURE_REVOKED_KEY, revoke="release"),
    "changed byte": Trick(FailureCode.SIGNATURE_INVALID, package=PACKAGE[:-1] + b"?"),
    "one byte more": Trick(FailureCode.SIGNATURE_INVALID, package=PACKAGE + b"\0"),
    "another package": Trick(FailureCode.SIGNATURE_INVALID, package=tgz(file("VERSION", b"v1"))),
    "comment over other bytes": Trick(FailureCode.SIGNATURE_INVALID, signature("other-bytes")),
    "changed comment": Trick(
        FailureCode.SIGNATURE_COMMENT_INVALID, signature("other-version").replace(b"=v0 ", b"=v1 ")
    ),
    "comment in another form": Trick(FailureCode.SIGNATURE_COMMENT_MALFORMED, signature("other-form")),
    "other service": Trick(FailureCode.SIGNATURE_WRONG_SERVICE, signature("other-service")),
    "other version": Trick(FailureCode.SIGNATURE_WRONG_VERSION, signature("other-version")),
}


@pytest.mark.parametrize("name", TRICKS)
async def test_with_a_pinned_key_nothing_else_is_unpacked(host: Host, keys: Keys, name: str) -> None:
    trick = TRICKS[name]
    keys.trust("release", scope=trick.scope)
    if trick.revoke:
        keys.revoke(trick.revoke)
    host.fetcher.packages[url_of("v1")] = trick.package
    host.fetcher.sidecars[f"{PLACE}.minisig"] = trick.sidecar
    await assert_refused(host, await host.carry_out(deploy("v1", 1)), trick.code)


async def test_a_signature_from_before_the_hosts_time_is_too_old(tmp_path: Path, keys: Keys) -> None:
    keys.trust("release")
    host = Host(tmp_path)
    host.verification = replace(
        host.verification, verification=Verification.SIGNATURE, min_signed_time=SIGNED_AT
    )
    host.fetcher.packages[url_of("v1")] = PACKAGE
    host.fetcher.sidecars[f"{PLACE}.minisig"] = signature("old")
    async with host.boot():
        await assert_refused(host, await host.carry_out(deploy("v1", 1)), FailureCode.SIGNATURE_TOO_OLD)
        host.fetcher.sidecars[f"{PLACE}.minisig"] = signature("good")
        assert (await host.carry_out(deploy("v1", 2))).entered is Phase.DONE


async def test_keys_that_cannot_be_read_refuse_the_package(host: Host, keys: Keys) -> None:
    (keys.trusted_dir / "typo.pub").write_text("oops")
    await assert_refused(host, await host.carry_out(deploy("v1", 1)), FailureCode.TRUST_UNREADABLE)


async def test_a_digest_from_the_controller_is_no_signature(host: Host) -> None:
    """A stolen controller knows the digest of what it sends, and no more."""
    del host.fetcher.sidecars[f"{PLACE}.minisig"]
    end = await host.carry_out(deploy("v1", 1, sha256=SHA256))
    await assert_refused(host, end, FailureCode.SIGNATURE_MISSING)


async def test_a_good_signature_does_not_replace_the_digest_that_was_asked_for(host: Host) -> None:
    end = await host.carry_out(deploy("v1", 1, sha256="0" * 64))
    await assert_refused(host, end, FailureCode.DIGEST_MISMATCH)


async def test_a_signature_that_cannot_be_fetched_now_may_be_tried_again(host: Host) -> None:
    host.fetcher.sidecars[f"{PLACE}.minisig"] = DownloadFailedError(f"{PLACE}.minisig", "cut")
    end = await host.carry_out(deploy("v1", 1))
    await assert_refused(host, end, FailureCode.DOWNLOAD_FAILED)
    assert end.end is not None
    assert end.end.code in TRANSIENT


async def test_a_key_that_is_added_or_revoked_counts_without_a_restart(host: Host, keys: Keys) -> None:
    host.fetcher.sidecars[f"{PLACE}.minisig"] = signature("stranger")
    refused = await host.carry_out(deploy("v1", 1))
    await assert_refused(host, refused, FailureCode.SIGNATURE_UNTRUSTED_KEY)
    path = keys.trust("stranger")
    assert (await host.carry_out(deploy("v1", 2))).entered is Phase.DONE
    path.unlink()
    keys.revoke("stranger")
    again = await host.carry_out(deploy("v1", 3))
    assert again.end is not None
    assert again.end.code is FailureCode.SIGNATURE_REVOKED_KEY
    assert host.live_version == "v1"


async def test_what_replaces_the_file_after_the_download_is_not_unpacked(host: Host) -> None:
    """S7: verified and unpacked is the descriptor; the name says nothing."""
    hostile, replaced_at = tgz(file("VERSION", b"hostile")), []

    def replace_package(checkpoint: str) -> None:
        if checkpoint in {"fetched", f"{Phase.UNPACKING}:entered"}:
            [package] = host.directory.glob("package-*")
            (host.directory / "hostile").write_bytes(hostile)
            (host.directory / "hostile").rename(package)
            replaced_at.append(checkpoint)

    host.checkpoint = replace_package
    end = await host.carry_out(deploy("v1", 1))
    assert replaced_at == ["fetched", "unpacking:entered"]
    assert end.entered is Phase.DONE
    assert host.live_version == "v1"


async def test_a_rollback_to_a_kept_release_asks_for_no_signature(host: Host, keys: Keys) -> None:
    """It was verified when it was installed; the origin may be gone, and so may the key."""
    host.fetcher.packages[url_of("v2")] = PACKAGE
    await host.carry_out(deploy("v1", 1))
    keys.trust("release").rename(keys.trusted_dir / "release.gone")
    assert (await host.carry_out(deploy("v2", 2))).entered is Phase.DONE
    keys.revoke("release")
    host.fetcher.sidecars.clear()
    end = await host.carry_out(rollback("v1", 3))
    assert end.end is not None
    assert end.end.result is TaskResult.KEPT
