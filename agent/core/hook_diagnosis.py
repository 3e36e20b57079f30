"""What facts about hooks mean: where those of an instance run, and whether they can. The probe is in
agent.doctor."""

from agent.core.finding import Finding, fine, problem
from agent.core.unit_diagnosis import Unit


def judge_hooks(instance: str, account: str, agent: Unit | None, lack: str) -> Finding:
    """`agent` is the unit that runs the agent, None for none; `lack` is what keeps systemd-run from working
    here, "" for nothing."""
    check = "hooks"
    if agent is None:
        return fine(check, instance, f"hooks of {instance} run as {account}")
    if account != "root":
        return fine(check, instance, f"hooks of {instance} run as {account}, in the sandbox of {agent.name}")
    if lack:
        return problem(
            check,
            instance,
            f"hooks of {instance} cannot be run",
            why=f"the agent has systemd run them, and {lack}",
            mend="apt-get install dbus && systemctl start dbus.socket",
        )
    return fine(check, instance, f"hooks of {instance} run as root, each as a unit of its own")
