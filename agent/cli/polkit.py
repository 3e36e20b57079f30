"""The polkit rule under which an agent without root may restart the units of its instances, and no others.

polkit(8); systemd tells polkit which unit and which verb are meant since version 226."""

import json
from collections.abc import Iterable
from typing import Final

from agent.config import AgentConfig
from agent.instance_config import SystemdDriver
from agent.service.systemd import CHANGING_VERBS

RULES_FILE: Final = "/etc/polkit-1/rules.d/50-releasehand-agent.rules"
ACCOUNT: Final = "releasehand-agent"
_RULES: Final = """\
// Made from agent.toml: releasehand-agent config polkit >{file}
// The account {account} may do this with these units, and nothing else.
polkit.addRule(function (action, subject) {{
    var units = {units};
    var verbs = {verbs};
    if (action.id === "org.freedesktop.systemd1.manage-units" &&
        subject.user === "{account}" &&
        units.indexOf(action.lookup("unit")) >= 0 &&
        verbs.indexOf(action.lookup("verb")) >= 0) {{
        return polkit.Result.YES;
    }}
}});
"""


def find_units(config: AgentConfig) -> list[str]:
    """The units that the host's owner has put into the agent's hands, each once."""
    drivers = (instance.driver for instance in config.instance)
    return sorted({driver.unit for driver in drivers if isinstance(driver, SystemdDriver)})


def write_rules(units: Iterable[str]) -> str:
    """The whole rules file. Names of units are data in it, whatever they hold."""
    return _RULES.format(
        file=RULES_FILE,
        account=ACCOUNT,
        units=json.dumps(list(units), indent=4).replace("\n", "\n    "),
        verbs=json.dumps(CHANGING_VERBS),
    )
