"""What facts about this agent's identity, time, disks and files mean. The probes are in agent.doctor."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from agent.core.finding import Finding, fine, problem, warning

TOLERATED_SKEW_S: Final = 30.0
DANGEROUS_SKEW_S: Final = 300.0
"""A new certificate is good from when it is signed: by a clock that is behind it is not good yet."""
OLD_AT: Final = 0.75
"""Of a certificate's life. It is renewed at 50 to 60 %."""
LOW_ROOT_BYTES: Final = 256 << 20
NO_ROOT_BYTES: Final = 16 << 20
LOW_INODES: Final = 10_000
NO_INODES: Final = 500
JOIN: Final = "releasehand-agent join --url wss://HOST:PORT --token-file FILE"


def judge_clock(ahead_s: float | None, where: str, *, vouched: bool) -> list[Finding]:
    """`ahead_s` is how far this host's clock is ahead of the controller's machine; None: nobody told.
    `vouched`: TLS has shown that it was the controller who told."""
    if ahead_s is None:
        return []
    amount = f"{abs(ahead_s):,.0f} s {'ahead of' if ahead_s > 0 else 'behind'}"
    if abs(ahead_s) < TOLERATED_SKEW_S:
        return [fine("clock", where, f"the clock agrees with the controller's to {abs(ahead_s):.0f} s")]
    doubt = "" if vouched else " (by its own word: TLS does not vouch for it)"
    find = problem if abs(ahead_s) >= DANGEROUS_SKEW_S else warning
    return [
        find(
            "clock",
            where,
            f"this host's clock is {amount} the controller's{doubt}",
            why="certificates are good between two times, and logs are compared by theirs",
            mend="timedatectl set-ntp true, on the one of the two that is wrong",
        )
    ]


def judge_certificate(begins_at: datetime, ends_at: datetime, now: datetime) -> Finding:
    """The agent's own."""
    until = f"{ends_at:%Y-%m-%d %H:%M} UTC"
    check, subject = "identity.certificate", "certificate"
    if now < begins_at:
        return problem(
            check,
            subject,
            f"this agent's certificate is not valid before {begins_at:%Y-%m-%d %H:%M} UTC",
            why=f"this host's clock says {now:%Y-%m-%d %H:%M} UTC",
            mend="timedatectl set-ntp true",
        )
    if now >= ends_at:
        return problem(
            check,
            subject,
            f"this agent's certificate ended at {until}",
            why="it renews itself while the controller is reached, and for 90 days after its end",
            mend="mend what is wrong with the link below; after 90 days: releasehand-agent join --again",
        )
    if now >= begins_at + (ends_at - begins_at) * OLD_AT:
        return warning(
            check,
            subject,
            f"this agent's certificate ends at {until} and was not renewed in time",
            why="it is renewed over the link at 50 to 60 % of its life",
            mend="journalctl -u releasehand-agent | grep certificate",
        )
    return fine(check, subject, f"this agent's certificate is good until {until}, {_days(ends_at - now)}")


@dataclass(frozen=True, slots=True)
class Space:
    """A file system, below `path`. `inodes` is None where it does not count them."""

    path: str
    free_bytes: int
    free_inodes: int | None
    read_only: bool


def judge_space(space: Space, *, low_bytes: int, needed_bytes: int, what_for: str) -> list[Finding]:
    """Below `needed_bytes` nothing works that it is `what_for`; below `low_bytes` it will not for long."""
    if space.read_only:
        return [
            problem(
                "disk.read_only",
                space.path,
                f"the file system of {space.path} is mounted read-only",
                why=f"it is needed for {what_for}; after an error of the disk the kernel does this by itself",
                mend=f"dmesg | tail; mount -o remount,rw $(findmnt -no TARGET -T {space.path})",
            )
        ]
    found = []
    free = _size(space.free_bytes)
    if space.free_bytes < low_bytes:
        find = problem if space.free_bytes < needed_bytes else warning
        found.append(
            find(
                "disk.space",
                space.path,
                f"{free} left in the file system of {space.path}",
                why=f"{what_for} want {_size(max(low_bytes, needed_bytes))}",
                mend="releasehand-agent releases prune;"
                f" du -xah --max-depth=3 $(findmnt -no TARGET -T {space.path}) | sort -h | tail",
            )
        )
    else:
        found.append(fine("disk.space", space.path, f"{free} left for {space.path}"))
    if space.free_inodes is not None and space.free_inodes < LOW_INODES:
        find = problem if space.free_inodes < NO_INODES else warning
        found.append(
            find(
                "disk.inodes",
                space.path,
                f"{space.free_inodes:,} inodes left in the file system of {space.path}",
                why="each file takes one, whatever its size",
                mend=f"releasehand-agent releases prune; df -i {space.path}",
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Placed:
    """A file or folder, and who may do what. `mode` is its permission bits."""

    path: str
    mode: int
    owner: int


def judge_secret(placed: Placed, *, agent_uid: int, is_folder: bool) -> Finding:
    """The agent's key, or a folder that holds it: it is to be the agent's, and nobody else's."""
    check = "identity.mode"
    if placed.owner != agent_uid:
        return problem(
            check,
            placed.path,
            f"{placed.path} belongs to user {placed.owner}, and the agent runs as user {agent_uid}",
            why="the agent cannot use it, or somebody else can",
            mend=f"chown {agent_uid}: {placed.path}",
        )
    if placed.mode & (0o022 if is_folder else 0o077):
        return problem(
            check,
            placed.path,
            f"{placed.path} is open to other accounts (mode {placed.mode:o})",
            why="whoever has the key is this agent for the controller",
            mend=f"chmod {0o700 if is_folder else 0o600:o} {placed.path}",
        )
    return fine(check, placed.path, f"{placed.path} is its owner's alone")


def judge_trust(problems: Sequence[str], keys: int, *, signature_asked: Sequence[str]) -> list[Finding]:
    """The keys whose signatures count. `signature_asked` are the services whose packages must be signed."""
    found = [
        problem(
            "trust",
            text.partition(":")[0],
            text,
            why="while keys cannot be read every package is refused",
            mend="correct what is named, then releasehand-agent config check",
        )
        for text in problems
    ]
    if not found and signature_asked and not keys:
        found.append(
            problem(
                "trust",
                ", ".join(signature_asked),
                f"packages of {', '.join(signature_asked)} must be signed, and no key is trusted here",
                why="agent.toml says verification = 'signature', and the folder of trusted keys is empty",
                mend="put the public key of who makes the packages into trust.trusted_dir",
            )
        )
    words = (
        f"{keys} trusted {'key' if keys == 1 else 'keys'}"
        if keys
        else "no trusted key, and none is asked for"
    )
    return found or [fine("trust", "keys", words)]


def _size(number: int) -> str:
    return f"{number / 2**30:,.1f} GiB" if number >= 2**30 else f"{number / 2**20:,.0f} MiB"


def _days(span: timedelta) -> str:
    return f"{span.days} days" if span.days != 1 else "1 day"
