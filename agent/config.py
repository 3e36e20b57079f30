"""agent.toml: who this agent is, where its controller is and what it looks after. The host's owner
decides it all.

A controller can name a version and a URL; what is run here, and where packages may come from, stands
here alone."""

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    model_validator,
)

from agent.errors import TrustUnreadableError
from agent.identity import Expected
from agent.instance_config import (
    AbsolutePath,
    Check,
    CommandCheck,
    CommandDriver,
    Driver,
    HookSection,
    HttpCheck,
    InstanceSection,
    NoCheck,
    NoDriver,
    Section,
    SystemdDriver,
    TcpCheck,
)
from agent.package_config import PackagesSection, UnpackSection
from agent.trust import REVOKED_DIR, TRUSTED_DIR, load_trust
from agent.verify import Verification, VerificationPolicy
from releasehand.model.fields import Name
from shared.logs import LogFormat
from shared.settings import ConfigError, Problem, load_settings
from shared.tls import client_context

__all__ = [
    "AgentConfig",
    "Check",
    "CommandCheck",
    "CommandDriver",
    "ControllerSection",
    "Driver",
    "HookSection",
    "HttpCheck",
    "InstanceSection",
    "NoCheck",
    "NoDriver",
    "PackagesSection",
    "SystemdDriver",
    "TcpCheck",
    "TrustSection",
    "UnpackSection",
    "VerificationSection",
    "find_trust_problems",
    "load_config",
    "read_config",
]

ENVIRONMENT_PREFIX: Final = "RELEASEHAND_AGENT"


def _check_hub_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "wss" or not parts.hostname:
        raise ValueError("must be wss://HOST:PORT")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must carry no user, query or fragment")
    if parts.port == 0:
        raise ValueError("must not name port 0")
    return url


HubUrl = Annotated[str, AfterValidator(_check_hub_url)]


class ControllerSection(Section):
    """The controller. The host keeps where it joined, so this may be left out."""

    url: HubUrl | None = None
    """The hub: wss://HOST:PORT. Left out: where this host joined. Another address is for the same controller
    at a new place: whoever does not show the authority that this host joined is refused there."""


class VerificationSection(Section):
    """What a package must show. For one service: what is left out is as `[trust]` says."""

    verification: Verification | None = None
    """Left out: `signature` as soon as there is a key in one of the two folders, else `tls`."""
    accept_sha256_file: bool | None = None
    """Whether the `.sha256` file beside a package counts as a digest. Left out: no."""
    min_signed_time: AwareDatetime | None = None
    """Packages signed earlier are refused."""


class TrustSection(VerificationSection):
    """Whose packages are accepted. The tables in `service` say it otherwise for one service."""

    trusted_dir: AbsolutePath = TRUSTED_DIR
    """Public keys whose signatures count, one `.pub` file each."""
    revoked_dir: AbsolutePath = REVOKED_DIR
    """Public keys that never count again."""
    service: dict[Name, VerificationSection] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _no_empty_words(self) -> "TrustSection":
        """A rule that would never be asked is refused: its writer believes in it."""
        for name in (None, *self.service):
            policy, section = self.policy_for(name or ""), self.service[name] if name else self
            where = f"service.{name}: " if name else ""
            if section.accept_sha256_file and policy.verification is not Verification.DIGEST:
                raise ValueError(f"{where}accept_sha256_file has no effect without verification = 'digest'")
            if section.min_signed_time and policy.verification is not Verification.SIGNATURE:
                raise ValueError(f"{where}min_signed_time has no effect without verification = 'signature'")
        return self

    def policy_for(self, service: str) -> VerificationPolicy:
        """What the packages of `service` must show."""
        own = self.service.get(service, VerificationSection())
        accept = self.accept_sha256_file if own.accept_sha256_file is None else own.accept_sha256_file
        return VerificationPolicy(
            trusted_dir=self.trusted_dir,
            revoked_dir=self.revoked_dir,
            verification=own.verification or self.verification,
            accept_sha256_file=bool(accept),
            min_signed_time=own.min_signed_time or self.min_signed_time,
        )


class AgentConfig(Section):
    """The whole file."""

    agent_id: Name | None = None
    """Who this agent is. Left out: who its certificate says; a certificate of another one is refused."""
    state_dir: AbsolutePath = Path("/var/lib/releasehand-agent")
    """The journal, packages on their way, and in `identity/` who this agent is. One agent alone uses it."""
    log_format: LogFormat = "text"
    """Lines for people, or one JSON object for each event."""
    controller: ControllerSection = ControllerSection()
    packages: PackagesSection = PackagesSection()
    unpack: UnpackSection = UnpackSection()
    trust: TrustSection = TrustSection()
    instance: tuple[InstanceSection, ...] = ()
    """What this agent looks after. A new host is online before anybody has written one."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Told to the controller, beside `unpack_landlock` and `unpack_user`, which say how unpacking is
    confined."""

    def expected_identity(self) -> Expected:
        """What this file says of the identity that the host keeps."""
        return Expected(self.agent_id or "", self.controller.url or "")


def load_config(file: Path, environment: Mapping[str, str]) -> AgentConfig:
    """Read `file`, then the environment; look at every file it names. Raises ConfigError with all
    problems."""
    config = read_config(file, environment)
    if problems := list(_find_bad_files(config)):
        raise ConfigError(problems)
    return config


def read_config(file: Path, environment: Mapping[str, str]) -> AgentConfig:
    """The same without a look at the files it names, which are not for everybody's eyes. Raises
    ConfigError."""
    return load_settings(
        AgentConfig,
        file=file,
        environment=environment,
        prefix=ENVIRONMENT_PREFIX,
        look_across=_look_across,
    )


def find_trust_problems(config: AgentConfig) -> list[Problem]:
    """What is wrong with the keys on this host now. The agent starts all the same, refusing packages: what
    was begun before must be brought to its end."""
    trust = config.trust
    problems = [
        Problem(f"trust.{name}", f"{directory} does not exist")
        for name, directory in (("trusted_dir", trust.trusted_dir), ("revoked_dir", trust.revoked_dir))
        if name in trust.model_fields_set and not directory.exists()
    ]
    try:
        load_trust(trust.trusted_dir, trust.revoked_dir)
    except TrustUnreadableError as exc:
        problems.append(Problem(str(exc.path), exc.reason))
    return problems


def _look_across(tree: Mapping[str, Any]) -> Iterator[Problem]:
    yield from _find_clashes(tree)
    yield from _find_strangers(tree)


def _find_strangers(tree: Mapping[str, Any]) -> Iterator[Problem]:
    """A rule for a service that has no instance here: its name is misspelt, and another goes unguarded."""
    sections, trust = tree.get("instance"), tree.get("trust")
    rules = trust.get("service") if isinstance(trust, dict) else None
    if not isinstance(sections, list) or not isinstance(rules, dict):
        return
    services = {one.get("service") for one in sections if isinstance(one, dict)}
    for name in rules:
        if name not in services:
            yield Problem(f"trust.service.{name}", "no instance here is of this service")


def _find_clashes(tree: Mapping[str, Any]) -> Iterator[Problem]:
    """Two instances with one id or one root, or a root inside another's."""
    sections = tree.get("instance")
    if not isinstance(sections, list):
        return
    ids: dict[str, int] = {}
    roots: dict[Path, int] = {}
    for index, one in enumerate(sections):
        if not isinstance(one, dict):
            continue
        if isinstance(name := one.get("id"), str) and (earlier := ids.setdefault(name, index)) != index:
            yield Problem(f"instance[{index}].id", f"is that of instance[{earlier}] too; each needs its own")
        if isinstance(text := one.get("root"), str) and text.startswith("/") and "\0" not in text:
            root = Path(text).resolve()
            for other, earlier in roots.items():
                if root.is_relative_to(other) or other.is_relative_to(root):
                    what = "is" if root == other else "lies inside or around"
                    yield Problem(f"instance[{index}].root", f"{what} the root of instance[{earlier}]")
            roots.setdefault(root, index)


def _find_bad_files(config: AgentConfig) -> Iterator[Problem]:
    file = config.packages.ca_file
    if file is None:
        return
    try:
        client_context(file)
    except ssl.SSLError:
        yield Problem("packages.ca_file", f"{file} holds no certificate in PEM form")
    except OSError as exc:
        yield Problem("packages.ca_file", f"{file} cannot be read: {exc.strerror or exc}")
