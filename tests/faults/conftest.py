"""`--all-faults` makes every fault instead of a seeded sample; either way a table is printed at the end."""

import pytest

from tests.faults.tally import Tally

_TALLY = pytest.StashKey[Tally]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-faults", action="store_true", help="Make every fault, not a seeded sample.")

    parser.addoption("--kills", type=int, default=0, help="Fail unless so many daemons were killed.")


def pytest_sessionfinish(session: pytest.Session) -> None:
    tally = session.config.stash.get(_TALLY, Tally())
    wanted = session.config.getoption("kills", default=0)
    if tally.kills < wanted:
        tally.note(f"too few daemons were killed: {wanted} are wanted")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TALLY] = Tally()


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Where a test counts the faults it makes."""
    return request.config.stash.setdefault(_TALLY, Tally())


@pytest.fixture
def all_faults(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("all_faults", default=False))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tally = config.stash.get(_TALLY, None)
    if tally is not None and tally.rows:
        terminalreporter.section("faults")
        for line in tally.lines():
            terminalreporter.write_line(line)
