"""controller.toml: where the controller listens, who may talk to it, and where its rows are."""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from controller.certificate import find_pair_problems
from controller.sealing import find_key_problems, is_open
from releasehand.model import Name
from shared.logs import LogFormat
from shared.settings import ConfigError, Problem, load_settings

ENVIRONMENT_PREFIX: Final = "RELEASEHAND_CONTROLLER"
DEFAULT_DATABASE: Final = "sqlite:////var/lib/releasehand-controller/controller.db"
DEFAULT_PKI_DIRECTORY: Final = "/var/lib/releasehand-controller/pki"
DEFAULT_INSTALL_FOLDER: Final = "/var/lib/releasehand-controller/install"
MIN_TOKEN_CHARS: Final = 16
MAX_TOKEN_CHARS: Final = 4_096
_API_HOST: Final = "127.0.0.1"
_HUB_HOST: Final = "0.0.0.0"
_ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
MAX_HOST_NAME: Final = 253
_POSTGRESQL: Final = ("postgresql", "postgres")
_VERIFIED: Final = frozenset({"verify-ca", "verify-full"})
_FLAG: Final = TypeAdapter(bool)


def _check_absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _check_host(host: str) -> str:
    if not host or host != host.strip() or "/" in host or "://" in host:
        raise ValueError("must be an address or a host name, like 127.0.0.1")
    return host


def _check_database(url: str) -> str:
    """As far as can be told without opening it; the store says the rest."""
    parts = urlsplit(url)
    engine, _, driver = parts.scheme.partition("+")
    if engine in _POSTGRESQL:
        return _check_postgresql(url, parts, driver)
    if engine != "sqlite":
        raise ValueError("must be sqlite:////ABSOLUTE/FILE.db or postgresql://USER@HOST/DATABASE")
    if not parts.path.startswith("//"):
        raise ValueError("must name an absolute file, with four slashes: sqlite:////x.db")
    if Path(parts.path[1:]).is_dir():
        raise ValueError("must name a file, and this is a folder")
    return url


def _check_postgresql(url: str, parts: SplitResult, driver: str) -> str:
    if driver not in ("", "asyncpg"):
        raise ValueError(f"cannot use the driver {driver}; write postgresql:// alone")
    if not parts.path.strip("/") or parts.port == 0:  # asking for a port that is no number raises ValueError
        raise ValueError("must name a database: postgresql://USER@HOST/DATABASE")
    if find_spec("asyncpg") is None:
        raise ValueError("needs PostgreSQL's driver; install releasehand-daemons[postgres]")
    return url


def _check_install_url(url: str) -> str:
    """It stands in a script that hosts run as root: nothing but a host and a port."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not _is_name(parts.hostname or "") or parts.port == 0:
        raise ValueError("must be https://HOST or https://HOST:PORT")
    if parts.path.strip("/") or parts.username is not None or "?" in url or "#" in url:
        raise ValueError("must carry no path, user, query or fragment")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    address = f"https://{host}" + (f":{parts.port}" if parts.port else "")
    if address != f"https://{parts.netloc.lower()}":  # what else stands there, urlsplit does not tell
        raise ValueError("must be https://HOST or https://HOST:PORT")
    return address


AbsolutePath = Annotated[Path, AfterValidator(_check_absolute)]
Host = Annotated[str, AfterValidator(_check_host)]
Days = Annotated[int, Field(ge=0, le=36_500)]
Port = Annotated[int, Field(ge=0, le=65_535, description="0: any free one.")]


def is_loopback(host: str) -> bool:
    """True where nobody but this machine can connect."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Section(BaseModel):
    """A table of the file: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


SectionT = TypeVar("SectionT", bound=Section)


class ApiSection(Section):
    """The HTTP API. Callers have tokens that `releasehand-controller token` makes; those of `tokens` and
    `token_files` may do everything, and serve to install the first ones."""

    host: Host = _API_HOST
    """The address to listen on."""
    port: Port = 8080
    """The port of the HTTP API; 0 for any free one."""
    cert_file: AbsolutePath | None = None
    """The API's certificate with its chain, PEM: with it the API speaks HTTPS. Read again when it changes."""
    key_file: AbsolutePath | None = None
    """The certificate's key, PEM, without a password."""
    allow_plain_http: bool = False
    """Whether `host` may be an address that other machines reach without a certificate here."""
    tokens: dict[Name, SecretStr] = {}
    """Callers by name, with every scope. A token has at least 16 characters, and each caller its own."""
    token_files: dict[Name, AbsolutePath] = {}
    """The same, each token in a file; it is read at start."""
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Connections that may be open at once; one more is refused with 429 and closed."""
    calls_per_second: Annotated[float, Field(gt=0, le=100_000)] = 200.0
    """Calls per second that each caller may make for long, and each address on routes without a token."""
    call_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    """Calls that it may make at once after a quiet time; one more is refused with 429."""
    failures_per_second: Annotated[float, Field(gt=0, le=100_000)] = 1.0
    """Calls per second without a token that is good, for each address and for long: guessing is slow."""
    failure_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """Such calls at once after a quiet time; one more is refused with 429."""


class HubSection(Section):
    """The agents' port. It speaks TLS 1.3 with a certificate of the controller's own authority."""

    host: Host = _HUB_HOST
    """The address to listen on."""
    port: Port = 8443
    """The port that agents connect to; 0 for any free one."""
    names: tuple[Host, ...] = ()
    """Host names and addresses that agents find the hub at: its certificate names these and no other. Empty:
    this machine's name, localhost, 127.0.0.1, ::1, and `host` when it is one address."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    """Agents' connections that may be open at once; one more is refused with 503."""
    send_timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    """An agent that takes no byte for so long is cut off."""


class PkiSection(Section):
    """The controller's own certificate authority, which is made at the first start."""

    directory: AbsolutePath = Path(DEFAULT_PKI_DIRECTORY)
    """Where its key, its certificate and the hub's are. Several controllers of one database need the same
    ca.key and ca.pem."""
    agent_certificate_s: Annotated[int, Field(ge=60, le=90 * 86_400)] = 30 * 86_400
    """How long an agent's certificate is good, in seconds. It is renewed in the second half of its life."""


class RetentionSection(Section):
    """How long the database keeps what only grows."""

    events_keep_days: Days = 90
    """How long the release log of an operation is kept after its end; 0 for ever."""
    history_keep_days: Days = 0
    """How long the version history is kept; 0 for ever. What `previous` leads to stays."""


class SecretsSection(Section):
    """What seals secrets in the database: the queries of package URLs, which are credentials where URLs are
    presigned. A key is 64 hexadecimal digits, as `openssl rand -hex 32` prints them."""

    key_file: AbsolutePath | None = None
    """The key. Left out: `secrets.key` beside the SQLite database, made at the first start. With PostgreSQL
    it has to be named, the same key for each controller."""
    old_key_files: tuple[AbsolutePath, ...] = ()
    """Further keys that open what was sealed with them. A start seals all of it anew with the key of
    `key_file`."""


class InstallSection(Section):
    """Agents that install themselves: the API hands hosts a script, and packages. Without `url` the script
    does nothing but say so."""

    url: Annotated[str, AfterValidator(_check_install_url)] | None = None
    """The API as hosts reach it: https://HOST:PORT, with a certificate that they verify."""
    folder: AbsolutePath = Path(DEFAULT_INSTALL_FOLDER)
    """Where the packages are: each `releasehand-daemons_*.deb` directly in it is everybody's to fetch."""


class ControllerConfig(Section):
    """The whole file."""

    database: Annotated[str, AfterValidator(_check_database)] = DEFAULT_DATABASE
    """Where the rows are: sqlite:////ABSOLUTE/FILE.db, which is made if it is missing, or
    postgresql://USER@HOST/DATABASE. A password may also stand in the file that PGPASSFILE names;
    `?ssl=verify-full` encrypts the way there."""
    log_format: LogFormat = "text"
    """Lines for people, or one JSON object for each event."""
    api: ApiSection = ApiSection()
    hub: HubSection = HubSection()
    pki: PkiSection = PkiSection()
    retention: RetentionSection = RetentionSection()
    secrets: SecretsSection = SecretsSection()
    install: InstallSection = InstallSection()


def load_config(file: Path | None, environment: Mapping[str, str]) -> ControllerConfig:
    """Read `file`, then the environment; look at every file it names. Raises ConfigError with all
    problems."""
    return load_settings(
        ControllerConfig,
        file=file,
        environment=environment,
        prefix=ENVIRONMENT_PREFIX,
        look_across=_look_across,
    )


def read_api_tokens(config: ControllerConfig) -> dict[str, str]:
    """Caller name to token, files read now. Raises ConfigError."""
    return _read_tokens("api.tokens", config.api.tokens, "api.token_files", config.api.token_files)


def hub_names(hub: HubSection) -> list[str]:
    """What the hub's certificate is to name."""
    if hub.names:
        return list(hub.names)
    own = socket.gethostname()
    return [*([own] if _is_name(own) else []), *_LOOPBACK, *({hub.host} - _ANY_ADDRESS - set(_LOOPBACK))]


def find_risks(config: ControllerConfig) -> list[str]:
    """What works but deserves a warning at start, in words for the log."""
    risks = []
    if not is_loopback(config.api.host) and config.api.cert_file is None:
        risks.append(f"the API answers plain HTTP on {config.api.host}: tokens cross the network readable")
    if _is_readable_on_the_way(config.database):
        risks.append("the database is reached without verified TLS: add ?ssl=verify-full to its URL")
    named = [file for file in (config.secrets.key_file, *config.secrets.old_key_files) if file is not None]
    risks += [f"{file} can be read by others than its owner: chmod 600 it" for file in named if is_open(file)]
    return risks


def _is_readable_on_the_way(database: str) -> bool:
    """Package URLs are rows, and they may hold secrets."""
    parts = urlsplit(database)
    if parts.scheme.partition("+")[0] not in _POSTGRESQL or not parts.hostname:
        return False  # a file, or a socket of this machine
    return not is_loopback(parts.hostname) and parse_qs(parts.query).get("ssl", [""])[0] not in _VERIFIED


def _look_across(tree: Mapping[str, Any]) -> Iterator[Problem]:
    """Tokens and files are looked at in each section that is right in itself: what is wrong elsewhere hides
    nothing."""
    yield from _find_open_networks(tree)
    api, hub = _read(ApiSection, tree.get("api", {})), _read(HubSection, tree.get("hub", {}))
    if api is not None:
        yield from _find_bad_tokens(read_api_tokens, ControllerConfig(api=api))
        yield from find_pair_problems("api", api.cert_file, api.key_file)
    if hub is not None:
        yield from _find_bad_names(hub)
    yield from _find_bad_keys(tree)
    if api is not None and hub is not None and _share_a_port(api, hub):
        yield Problem("hub.port", f"{hub.port} is api.port too; each needs its own")


def _find_bad_keys(tree: Mapping[str, Any]) -> Iterator[Problem]:
    secrets, database = _read(SecretsSection, tree.get("secrets", {})), tree.get("database", DEFAULT_DATABASE)
    if secrets is not None and isinstance(database, str):
        for where, what in find_key_problems(database, secrets.key_file, secrets.old_key_files):
            yield Problem(where, what)


def _read(model: type[SectionT], values: object) -> SectionT | None:
    try:
        return model.model_validate(values)
    except ValidationError:
        return None  # told key by key elsewhere


def _share_a_port(api: ApiSection, hub: HubSection) -> bool:
    same_host = api.host == hub.host or not {api.host, hub.host}.isdisjoint(_ANY_ADDRESS)
    return api.port == hub.port != 0 and same_host


def _find_open_networks(tree: Mapping[str, Any]) -> Iterator[Problem]:
    """Listening beyond this machine without encryption. Looks at the values as they were read."""
    api = part if isinstance(part := tree.get("api"), dict) else {}
    is_plain = not {"cert_file", "key_file"} & set(api)
    if is_plain and _is_open(api.get("host", _API_HOST)) and not _is_true(api.get("allow_plain_http", False)):
        yield Problem(
            "api.host",
            f"the API speaks plain HTTP and {api['host']} is no loopback address: give it a certificate with"
            " api.cert_file and api.key_file, listen on 127.0.0.1 behind a TLS proxy, or set"
            " api.allow_plain_http = true and let tokens cross the network readable",
        )


def _is_open(host: object) -> bool:
    return isinstance(host, str) and not is_loopback(host)


def _is_true(value: object) -> bool:
    try:
        return _FLAG.validate_python(value)
    except ValidationError:
        return True  # told as a wrong value already


def _read_tokens(
    tokens_key: str, tokens: Mapping[str, SecretStr], files_key: str, files: Mapping[str, Path]
) -> dict[str, str]:
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for name, secret in tokens.items():
        found[name] = secret.get_secret_value()
        problems += _judge(f"{tokens_key}.{name}", found[name])
    for name, file in files.items():
        where = f"{files_key}.{name}"
        if name in found:
            problems.append(Problem(where, f"is given in {tokens_key} too"))
            continue
        try:
            found[name] = file.read_text(encoding="utf-8").strip()
        except OSError as exc:
            problems.append(Problem(where, f"{file} cannot be read: {exc.strerror or exc}"))
        except UnicodeDecodeError:
            problems.append(Problem(where, f"{file} holds something that is no token"))
        else:
            problems += _judge(where, found[name])
    owners: dict[str, str] = {}
    for name, token in found.items():
        if (owner := owners.setdefault(token, name)) != name:
            problems.append(
                Problem(f"{tokens_key}.{name}", f"is the token of '{owner}' too; each needs its own")
            )
    if problems:
        raise ConfigError(problems)
    return found


def _judge(where: str, token: str) -> Iterator[Problem]:
    """What is wrong with a token; the token itself is never shown."""
    if not token.isascii() or not token.isprintable() or " " in token or len(token) > MAX_TOKEN_CHARS:
        yield Problem(where, "is no token: one word of printable ASCII is wanted")
    elif len(token) < MIN_TOKEN_CHARS:
        yield Problem(where, f"is too easy to guess: at least {MIN_TOKEN_CHARS} characters are wanted")


def _find_bad_tokens(
    read: Callable[[ControllerConfig], object], config: ControllerConfig
) -> Iterator[Problem]:
    try:
        read(config)
    except ConfigError as exc:
        yield from exc.problems


def _find_bad_names(hub: HubSection) -> Iterator[Problem]:
    for name in hub.names:
        if not _is_name(name):
            what = f"'{name}' is neither an address nor a host name: hub.example.com, without port"
            yield Problem("hub.names", what)


def _is_name(name: str) -> bool:
    """What a certificate can name: an address or a DNS name, no wildcard. Nor the zone of an address, which
    could be anything."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return _HOST_NAME.fullmatch(name) is not None and len(name) <= MAX_HOST_NAME
    return "%" not in name
