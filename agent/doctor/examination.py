"""Everything that is looked at, in the order in which it is told."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from agent.config import AgentConfig, find_trust_problems
from agent.core.diagnosis import (
    JOIN,
    LOW_ROOT_BYTES,
    NO_ROOT_BYTES,
    judge_certificate,
    judge_secret,
    judge_space,
    judge_trust,
)
from agent.core.finding import Finding, fine, problem, warning
from agent.core.hook_diagnosis import judge_hooks
from agent.core.link_state import LinkCondition
from agent.core.root_diagnosis import judge_root
from agent.core.unit_diagnosis import (
    Unit,
    judge_agent_unit,
    judge_sandboxed_service,
    judge_service_unit,
)
from agent.daemon import PACKAGES_NAME
from agent.doctor.account import Account, account_of, find_account
from agent.doctor.bus import find_lack_of_bus
from agent.doctor.host import look_at_file, look_at_root, measure_space
from agent.doctor.reach import examine_reach
from agent.doctor.systemd import ask_polkit, find_agent_unit, show_unit
from agent.errors import TrustUnreadableError
from agent.identity import IdentityError, NotJoinedError, read_membership
from agent.instance_config import CommandDriver, InstanceSection, SystemdDriver
from agent.link_file import read_link
from agent.state_dir import find_holder
from agent.trust import load_trust
from agent.verify import Verification
from shared.clock import Clock
from shared.identity_folder import IdentityFolder

LOW_STATE_BYTES: Final = 64 << 20
"""What the journal wants beside packages.reserve_bytes."""


def examine(config: AgentConfig, clock: Clock) -> list[Finding]:
    """All findings. What this account may not look at is a finding of its own."""
    unit = find_agent_unit()
    account = _find_account(config, unit)
    found = [_examine_python(), *_guard("agent.unit", "agent", lambda: _examine_agent(config, unit))]
    found += _guard("identity", str(config.state_dir), lambda: _examine_identity(config, account, clock))
    found += _guard("trust", str(config.trust.trusted_dir), lambda: _examine_trust(config))
    found += _guard("disk", str(config.state_dir), lambda: _examine_state_dir(config))
    for section in config.instance:
        found += _guard("root", str(section.root), partial(_examine_root, section, unit, account))
        found += _examine_driver(section, unit, account)
        if section.pre_hook or section.post_hook:
            found.append(judge_hooks(section.id, account.name, unit, find_lack_of_bus()))
    return found


def _guard(check: str, subject: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What `look` finds, as far as it gets."""
    found: list[Finding] = []
    try:
        found.extend(look())
    except OSError as exc:
        place, why = exc.filename or subject, exc.strerror or str(exc)
        mend = "sudo releasehand-agent doctor" if os.geteuid() else "look at the disk: dmesg | tail"
        found.append(problem(check, subject, f"{place} cannot be looked at", why=why, mend=mend))
    return found


def _examine_python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return fine("python", sys.executable, f"Python {version}, {sys.executable}")


def _examine_agent(config: AgentConfig, unit: Unit | None) -> Iterator[Finding]:
    holder = find_holder(config.state_dir)
    yield from judge_agent_unit(unit, runs=holder is not None)
    link = read_link(holder, config.state_dir) if holder is not None else None
    if link is None:
        return
    if link.condition is LinkCondition.ONLINE:
        yield fine("agent.link", link.controller, link.describe())
        return
    find = warning if link.condition is LinkCondition.CONNECTING else problem
    yield find(
        "agent.link",
        link.controller or "controller",
        f"the agent is {link.condition.value} since {link.since:%Y-%m-%d %H:%M:%S} UTC",
        why=link.why or "it has just started",
        mend="what is said here of the way to the controller; the agent tries again by itself",
    )


def _examine_identity(config: AgentConfig, account: Account, clock: Clock) -> Iterator[Finding]:
    folder = IdentityFolder(config.state_dir)
    try:
        member = read_membership(config.state_dir, config.expected_identity())
    except NotJoinedError:
        yield problem(
            "identity",
            "identity",
            "this host has not joined a controller",
            why="it has no certificate",
            mend=JOIN,
        )
        return
    except IdentityError as exc:
        yield problem(
            "identity", str(folder.path), "the identity cannot be used", why=str(exc), mend=f"{JOIN} --again"
        )
        yield from _examine_files(folder, account)
        return
    yield fine("identity", member.agent_id, f"this host is agent {member.agent_id} of {member.url}")
    yield from _examine_files(folder, account)
    yield judge_certificate(member.begins_at, member.ends_at, clock.now())
    yield from examine_reach(member, clock)


def _examine_files(folder: IdentityFolder, account: Account) -> Iterator[Finding]:
    for path, is_folder in ((folder.path.parent, True), (folder.path, True), (folder.key_file, False)):
        if path.exists():
            yield judge_secret(look_at_file(path), agent_uid=account.uid, is_folder=is_folder)


def _examine_trust(config: AgentConfig) -> list[Finding]:
    problems = [str(one) for one in find_trust_problems(config)]
    try:
        keys = len(load_trust(config.trust.trusted_dir, config.trust.revoked_dir).trusted)
    except TrustUnreadableError:
        keys = 0
    services = dict.fromkeys(one.service for one in config.instance)
    asked = [
        name for name in services if config.trust.policy_for(name).verification is Verification.SIGNATURE
    ]
    return judge_trust(problems, keys, signature_asked=asked)


def _examine_state_dir(config: AgentConfig) -> Iterator[Finding]:
    """The journal and packages on their way share a file system, unless somebody parted them."""
    reserve = config.packages.reserve_bytes + LOW_STATE_BYTES
    what_for = "the journal and downloads (packages.reserve_bytes stays free)"
    packages = config.state_dir / PACKAGES_NAME
    for place in [config.state_dir, *([packages] if packages.is_mount() else [])]:
        space = measure_space(place)
        yield from judge_space(space, low_bytes=2 * reserve, needed_bytes=reserve, what_for=what_for)


def _examine_root(section: InstanceSection, unit: Unit | None, account: Account) -> Iterator[Finding]:
    space, what_for = measure_space(section.root), f"releases of {section.id}"
    if not space.read_only:  # else nobody may write there, whoever owns it
        yield from judge_root(look_at_root(section, account), unit)
    yield from judge_space(space, low_bytes=LOW_ROOT_BYTES, needed_bytes=NO_ROOT_BYTES, what_for=what_for)


def _examine_driver(section: InstanceSection, unit: Unit | None, account: Account) -> list[Finding]:
    match section.driver:
        case SystemdDriver(unit=name):
            shown = show_unit(name)
            if shown is None:
                return [
                    problem(
                        "unit.exists",
                        name,
                        f"no systemd answers on this host, and {section.id} is a unit",
                        why="systemctl show says nothing",
                        mend="run the agent where systemd runs, or choose another driver",
                    )
                ]
            return judge_service_unit(shown, section.id, ask_polkit(account, name))
        case CommandDriver() if unit is not None:
            return [judge_sandboxed_service(section.id, unit)]
        case _:
            return []


def _find_account(config: AgentConfig, unit: Unit | None) -> Account:
    """Whom the agent runs as: by its process, by its unit, else who asks."""
    try:
        holder = find_holder(config.state_dir)
        if holder is not None:
            process = os.stat(f"/proc/{holder}")
            return account_of(process.st_uid, process.st_gid)
    except OSError:
        pass
    found = find_account(unit.user) if unit is not None else None
    return found or account_of(os.geteuid(), os.getegid())
