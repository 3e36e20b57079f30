"""One instance from its table in agent.toml: which driver, output, check and place for hooks it has."""

import os
from functools import partial
from pathlib import Path

from agent.check import CommandProbe, HealthCheck, HttpProbe, Probe, ServiceCheck, TcpProbe
from agent.config import (
    AgentConfig,
    CommandCheck,
    CommandDriver,
    HttpCheck,
    InstanceSection,
    NoCheck,
    NoDriver,
    SystemdDriver,
    TcpCheck,
)
from agent.hooks import HookPlace
from agent.hooks.child import HookChild
from agent.hooks.unit import HookUnit, are_units_at_hand
from agent.instance import Instance
from agent.journal import Journal
from agent.service import (
    CommandService,
    FileOutput,
    JournalOutput,
    NoOutput,
    ServiceManager,
    ServiceOutput,
    SystemdService,
    UnwatchedService,
)
from agent.switch import InstallRoot
from shared.clock import Clock


def make_instance(section: InstanceSection, config: AgentConfig, journal: Journal, clock: Clock) -> Instance:
    root = InstallRoot(section.root)
    service, check = make_service(section, root), _make_check(section, clock)
    policy = config.trust.policy_for(section.service)
    return Instance(
        section,
        root,
        service,
        check,
        journal,
        policy,
        output=_find_output(section, clock),
        hook_place=_make_hook_place(section, config.state_dir, clock),
    )


def _find_output(section: InstanceSection, clock: Clock) -> ServiceOutput:
    match section.driver:
        case SystemdDriver(unit=unit):
            return JournalOutput(unit, clock=clock)
        case CommandDriver():
            return FileOutput(section.root / "service.log")
        case NoDriver():
            return NoOutput()


def _make_hook_place(section: InstanceSection, state_dir: Path, clock: Clock) -> HookPlace:
    if are_units_at_hand(os.environ):
        return HookUnit(section.id, clock=clock)
    return HookChild(state_dir / f"hook-{section.id}.json")


def make_service(section: InstanceSection, root: InstallRoot) -> ServiceManager:
    """The driver that the section names."""
    match section.driver:
        case SystemdDriver(unit=unit):
            return SystemdService(unit)
        case CommandDriver() as driver:
            return CommandService(
                section.root,
                start=driver.start,
                stop=driver.stop,
                service=section.service,
                instance=section.id,
                port=section.port,
                version=partial(_active_version, root),
                environment=driver.environment,
                stop_timeout_s=driver.stop_timeout_s,
                starts_after_boot=driver.start_after_boot,
            )
        case NoDriver():
            return UnwatchedService()


def _make_check(section: InstanceSection, clock: Clock) -> HealthCheck:
    return ServiceCheck(_make_probe(section), clock=clock, settle_s=section.check.settle_s)


def _make_probe(section: InstanceSection) -> Probe | None:
    match section.check:
        case HttpCheck() as check:
            return HttpProbe(check.url, timeout_s=check.timeout_s, expect_body_contains=check.contains)
        case TcpCheck() as check:
            return TcpProbe(check.host, check.port, timeout_s=check.timeout_s)
        case CommandCheck() as check:
            names = {
                "RELEASEHAND_INSTANCE": section.id,
                "RELEASEHAND_SERVICE": section.service,
                "RELEASEHAND_PORT": str(section.port),
            }
            return CommandProbe(
                check.command,
                cwd=section.root / "current",
                environment=check.environment | names,
                timeout_s=check.timeout_s,
            )
        case NoCheck():
            return None


def _active_version(root: InstallRoot) -> str:
    name = root.current()
    return next((one.version for one in root.releases() if one.name == name), "")
