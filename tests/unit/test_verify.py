"""What a host accepts, rule by rule: the one that its owner chose, or the one that its keys bring about."""

import asyncio
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.download import Download
from agent.errors import (
    DigestMalformedError,
    DigestMismatchError,
    DigestMissingError,
    OriginRefusedError,
    SignatureMissingError,
    TrustUnreadableError,
)
from agent.verify import Request, Verification, VerificationPolicy, verify_package
from releasehand.model.codes import FailureCode
from shared.errors import AttemptError
from tests.fakes.host import url_of
from tests.fakes.signing import PACKAGE, SHA256, Keys, signature

REQUEST = Request(service="web", version="v1", url=url_of("v1"))


class Sidecars:
    """Answers from a table, and remembers what it was asked for."""

    def __init__(self, **found: bytes) -> None:
        self.found, self.asked = found, list[str]()

    async def fetch(self, url: str, suffix: str) -> bytes:
        self.asked.append(suffix)
        if suffix[1:] not in self.found:
            raise OriginRefusedError(url.partition("?")[0] + suffix, "the origin answered 404")
        return self.found[suffix[1:]]


class CountingFile(io.FileIO):
    """A package whose descriptor is asked for only by what reads it."""

    asked = 0

    def fileno(self) -> int:
        self.asked += 1
        return super().fileno()


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Download]:
    path = tmp_path / "package"
    path.write_bytes(PACKAGE)
    with CountingFile(path, "r+") as opened:  # raw, as the Downloader's is
        yield Download(opened, path, SHA256, len(PACKAGE))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def rule(keys: Keys, verification: Verification | None = None, *, file: bool = False) -> VerificationPolicy:
    return VerificationPolicy(
        keys.trusted_dir, keys.revoked_dir, verification=verification, accept_sha256_file=file
    )


async def test_without_a_key_https_is_enough_and_nothing_more_is_fetched(
    package: Download, keys: Keys
) -> None:
    sidecars = Sidecars()
    await verify_package(package, REQUEST, rule(keys), sidecars.fetch)
    assert sidecars.asked == []
    assert isinstance(package.file, CountingFile)
    assert package.file.asked == 0  # no BLAKE2b without a key


@pytest.mark.parametrize("pin", ["trust", "revoke"])
async def test_a_key_of_any_kind_makes_signatures_the_rule(package: Download, keys: Keys, pin: str) -> None:
    getattr(keys, pin)("release")
    with pytest.raises(SignatureMissingError):
        await verify_package(package, REQUEST, rule(keys), Sidecars().fetch)


async def test_a_key_for_another_service_makes_signatures_the_rule_too(package: Download, keys: Keys) -> None:
    """Else a stolen controller could install anything on the services that no key was made for."""
    keys.trust("release", scope="services=api")
    with pytest.raises(SignatureMissingError):
        await verify_package(package, REQUEST, rule(keys), Sidecars().fetch)


async def test_signature_without_any_key_refuses_everything(package: Download, keys: Keys) -> None:
    sidecars = Sidecars(minisig=signature("good"))
    with pytest.raises(AttemptError) as caught:
        await verify_package(package, REQUEST, rule(keys, Verification.SIGNATURE), sidecars.fetch)
    assert caught.value.code is FailureCode.SIGNATURE_UNTRUSTED_KEY


@pytest.mark.parametrize("verification", [Verification.TLS, Verification.DIGEST])
async def test_an_owner_may_ask_for_less_than_a_signature_though_a_key_is_pinned(
    package: Download, keys: Keys, verification: Verification
) -> None:
    keys.trust("release")
    (keys.trusted_dir / "bad.pub").write_text("not even looked at")
    sidecars = Sidecars()
    await verify_package(package, replace(REQUEST, sha256=SHA256), rule(keys, verification), sidecars.fetch)
    assert sidecars.asked == []
    assert isinstance(package.file, CountingFile)
    assert package.file.asked == 0


@pytest.mark.parametrize("verification", [None, *Verification])
async def test_a_digest_that_is_named_is_compared_under_every_rule(
    package: Download, keys: Keys, verification: Verification | None
) -> None:
    sidecars = Sidecars(minisig=signature("good"), sha256=SHA256.encode())
    with pytest.raises(DigestMismatchError):
        await verify_package(
            package,
            replace(REQUEST, sha256="0" * 64),
            rule(keys, verification, file=True),
            sidecars.fetch,
        )
    assert sidecars.asked == []


async def test_under_digest_a_package_without_one_is_refused(package: Download, keys: Keys) -> None:
    sidecars = Sidecars(sha256=SHA256.encode())
    with pytest.raises(DigestMissingError, match="package_sha256"):
        await verify_package(package, REQUEST, rule(keys, Verification.DIGEST), sidecars.fetch)
    assert sidecars.asked == []  # the file is asked only where the owner accepts it


async def test_the_digest_of_the_request_goes_before_the_file(package: Download, keys: Keys) -> None:
    sidecars = Sidecars(sha256=b"0" * 64)
    request = replace(REQUEST, sha256=SHA256.upper())
    await verify_package(package, request, rule(keys, Verification.DIGEST, file=True), sidecars.fetch)
    assert sidecars.asked == []


@pytest.mark.parametrize(
    "line",
    [
        "{}\n", "{}", "{}  v1.tar.gz\n", "{} *v1.tar.gz\r\n", "{}\t./dist/a b.tar.gz\n\n",
        "SHA256 (a (1).tar.gz) = {}\n", "SHA256(v1.tar.gz)= {}\r\n",
    ],
)  # fmt: skip
async def test_a_digest_file_is_read_as_tools_write_it(package: Download, keys: Keys, line: str) -> None:
    policy = rule(keys, Verification.DIGEST, file=True)
    good, bad = line.format(SHA256).encode(), line.format("0" * 64).encode()
    await verify_package(package, REQUEST, policy, Sidecars(sha256=good).fetch)
    with pytest.raises(DigestMismatchError):
        await verify_package(package, REQUEST, policy, Sidecars(sha256=bad).fetch)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", SHA256[:-1].encode(), SHA256.encode() + b"0", f"{SHA256} a\n{SHA256} b\n".encode()],
)
async def test_a_digest_file_without_one_digest_is_malformed(
    package: Download, keys: Keys, content: bytes
) -> None:
    with pytest.raises(DigestMalformedError):
        await verify_package(
            package,
            REQUEST,
            rule(keys, Verification.DIGEST, file=True),
            Sidecars(sha256=content).fetch,
        )


async def test_a_digest_file_that_is_not_there_is_a_missing_digest(package: Download, keys: Keys) -> None:
    with pytest.raises(DigestMissingError, match="404"):
        await verify_package(package, REQUEST, rule(keys, Verification.DIGEST, file=True), Sidecars().fetch)


async def test_a_folder_of_keys_that_cannot_be_read_opens_nothing(package: Download, keys: Keys) -> None:
    keys.trusted_dir.write_text("")
    with pytest.raises(TrustUnreadableError):
        await verify_package(package, REQUEST, rule(keys), Sidecars().fetch)


async def test_a_verification_can_be_cancelled_and_repeated(package: Download, keys: Keys) -> None:
    keys.trust("release")
    asked = asyncio.Event()

    async def hang(url: str, suffix: str) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with asyncio.TaskGroup() as group:
        work = group.create_task(verify_package(package, REQUEST, rule(keys), hang))
        await asked.wait()
        work.cancel()
    await verify_package(package, REQUEST, rule(keys), Sidecars(minisig=signature("good")).fetch)
