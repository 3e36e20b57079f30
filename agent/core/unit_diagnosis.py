"""What facts about units mean, the agent's own among them. The probes are in agent.doctor."""

from dataclasses import dataclass
from typing import Final

from agent.core.finding import Finding, fine, problem, warning

AGENT_UNITS: Final = ("releasehand-agent.service", "releasehand-agent-user.service")
RULES: Final = "releasehand-agent config polkit >/etc/polkit-1/rules.d/50-releasehand-agent.rules"


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as systemd shows it (systemctl show). Texts are as systemd writes them."""

    name: str
    load: str
    active: str = ""
    enabled: str = ""
    result: str = ""
    user: str = ""
    needs_reload: bool = False
    protect_system: str = "no"
    protect_home: str = "no"
    private_tmp: bool = False
    writable: tuple[str, ...] = ()
    unwritable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        return self.load not in {"not-found", ""}


def judge_agent_unit(unit: Unit | None, *, runs: bool) -> list[Finding]:
    """The agent's own unit; None where no systemd runs or it has none. `runs`: an agent holds the state
    directory, whatever started it."""
    check = "agent.unit"
    if unit is None:
        if runs:
            return [fine(check, "agent", "the agent runs, started by hand")]
        return [
            problem(
                check,
                "agent",
                "the agent does not run",
                why="nobody started it",
                mend="releasehand-agent run, or install the package for a unit of systemd",
            )
        ]
    start = f"systemctl enable --now {unit.name.removesuffix('.service')}"
    if unit.active == "failed":
        return [
            problem(
                check,
                unit.name,
                f"{unit.name} has failed ({unit.result})",
                why="the end of its log says why: journalctl -n 20 -u " + unit.name,
                mend=f"releasehand-agent config check && systemctl restart {unit.name}",
            )
        ]
    if not runs:
        why = "nobody has enabled it" if unit.enabled == "disabled" else f"systemd says it is {unit.active}"
        return [problem(check, unit.name, "the agent does not run", why=why, mend=start)]
    found = [fine(check, unit.name, f"{unit.name} runs")]
    if unit.enabled in {"disabled", "masked"}:
        found = [
            warning(
                check,
                unit.name,
                f"{unit.name} runs, and does not start when this host boots",
                why=f"it is {unit.enabled}",
                mend=f"systemctl enable {unit.name}",
            )
        ]
    if unit.needs_reload:
        mend = f"systemctl daemon-reload && systemctl restart {unit.name}"
        found.append(_not_reloaded("agent.reload", unit.name, mend))
    return found


def _not_reloaded(check: str, unit: str, mend: str) -> Finding:
    return warning(
        check,
        unit,
        f"the files of {unit} were changed after it was loaded",
        why="what was changed does not count yet",
        mend=mend,
    )


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whether the agent's account may manage a unit, as polkit says; None: it cannot be told, `why`."""

    allowed: bool | None
    account: str
    why: str = ""


def judge_service_unit(unit: Unit, instance: str, allowance: Allowance) -> list[Finding]:
    """A unit that an instance of this host is."""
    if not unit.exists:
        return [
            problem(
                "unit.exists",
                unit.name,
                f"systemd knows no unit {unit.name}",
                why=f"{instance} is this unit by agent.toml",
                mend=f"systemctl edit --full --force {unit.name}",
            )
        ]
    if unit.load != "loaded":
        mend = (
            f"systemctl unmask {unit.name}"
            if unit.load == "masked"
            else f"systemd-analyze verify {unit.name}"
        )
        return [
            problem(
                "unit.exists",
                unit.name,
                f"{unit.name} cannot be started: it is {unit.load}",
                why=f"{instance} is this unit by agent.toml",
                mend=mend,
            )
        ]
    found = []
    if unit.enabled == "disabled":
        found.append(
            warning(
                "unit.enabled",
                unit.name,
                f"{unit.name} does not start when this host boots",
                why="it is disabled, and the agent enables nothing",
                mend=f"systemctl enable {unit.name}",
            )
        )
    if unit.active == "failed":
        found.append(
            warning(
                "unit.state",
                unit.name,
                f"{unit.name} has failed ({unit.result})",
                why=f"the end of its log says why: journalctl -n 20 -u {unit.name}",
                mend=f"systemctl restart {unit.name}, or deploy a version of {instance} that runs",
            )
        )
    if unit.needs_reload:
        found.append(_not_reloaded("unit.reload", unit.name, "systemctl daemon-reload"))
    found += _judge_owner(unit, allowance.account)
    found += _judge_allowance(unit.name, instance, allowance)
    return found or [fine("unit", unit.name, f"{unit.name} is there, and {allowance.account} may restart it")]


def _judge_owner(unit: Unit, account: str) -> list[Finding]:
    """An account that owns the code of a service is whoever the service runs as."""
    runs_as = unit.user or "root"
    if account == "root" or runs_as not in {"root", account}:
        return []
    as_root = f"whoever takes {account} over is root, one deployment later"
    return [
        warning(
            "unit.account",
            unit.name,
            f"{unit.name} runs as {runs_as}, and {account} owns its code",
            why=as_root if runs_as == "root" else "the service can change its own releases",
            mend=f"systemctl edit {unit.name}, with User= and an account of its own",
        )
    ]


def _judge_allowance(name: str, instance: str, allowance: Allowance) -> list[Finding]:
    if allowance.allowed:
        return []
    if allowance.allowed is None:
        return [
            warning(
                "unit.allowed",
                name,
                f"whether {allowance.account} may restart {name} cannot be told",
                why=allowance.why,
                mend="sudo releasehand-agent doctor, where pkcheck is installed (apt-get install polkitd)",
            )
        ]
    return [
        problem(
            "unit.allowed",
            name,
            f"{allowance.account} may not restart {name}",
            why=f"no rule of polkit allows it, and {instance} is this unit",
            mend=RULES,
        )
    ]


def judge_sandboxed_service(instance: str, agent: Unit) -> Finding:
    """A service of the driver `command`, where the agent runs under systemd."""
    return warning(
        "driver.sandbox",
        instance,
        f"the service of {instance} runs inside the sandbox of {agent.name}, as the agent's account",
        why="the driver 'command' starts it as a child of the agent: what the unit closes is closed to it",
        mend="make it a unit of its own, with driver = { type = 'systemd', unit = '…' }",
    )
