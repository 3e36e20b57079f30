# Every target works in a fresh clone: it makes .venv from requirements-dev.txt when that is missing or older.

.DEFAULT_GOAL := help
.PHONY: help demo test check contract faults faults-agent powercut test-hosts dist bench-api bench-idle bench-install bench-memory run docs lock clean
.DELETE_ON_ERROR:

python := .venv/bin/python
ready  := .venv/.complete

# `make demo KEEP=1` leaves the demo running.
export KEEP

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(ready)  ## deploy, break, revert and roll back on this machine (KEEP=1 leaves it running)
	@$(python) -m demo

test: $(ready)  ## all that a contributor must pass
	@scripts/postgresql.sh
	@$(python) scripts/stages.py lint unit integration faults browser

check: $(ready)  ## lint, types, import contracts and the quick unit tests, for use while writing
	@$(python) scripts/stages.py lint unit-only

contract: $(ready)  ## bad and good calls of the API without end: each edge of each field, 300 of each operation by chance
	@HYPOTHESIS_PROFILE=explore $(python) -m pytest tests/contract/test_openapi_live.py

faults: $(ready)  ## every fault of daemons, links, peers and disks, and a table of how they ended (40 min)
	@$(python) -m pytest tests/faults --all-faults --kills 200 --ignore=tests/faults/injection

faults-agent: $(ready)  ## break every system call by which the agent changes files (SIGKILL, ENOSPC, EIO)
	@command -v strace >/dev/null || [ "$$(id -u)" != 0 ] || apt-get install -qq -y strace
	@$(python) -m pytest tests/faults/injection --all-faults

powercut: $(ready)  ## cut the power of hosts and of the controller's database (root)
	@$(python) -m tests.powercut

test-hosts: $(ready)  ## the Debian package on hosts with a real systemd, booted on this machine (root, 4 min)
	@scripts/hosts.sh
	@! tests/hosts/probe.sh >/dev/null || scripts/dist.sh
	@$(python) -m pytest tests/hosts -n 3 --dist loadfile --no-loadscope-reorder --durations=5

dist: $(ready)  ## build the wheels and, on Debian, the .deb
	@scripts/dist.sh

bench-api: $(ready)  ## how fast the API answers with 10,000 instances and a million entries of history
	@$(python) -m bench.api
	@$(python) -m bench.pruning

bench-idle: $(ready)  ## what an agent takes of its host while nothing is to be done (2 min)
	@$(python) -m bench.idle

bench-install: $(ready)  ## how long an installation takes, beside curl | tar (installs nginx where missing, as root)
	@$(python) -m bench.install

bench-memory: $(ready)  ## how much the agent grows while it installs 2 GB
	@$(python) -m bench.memory

run: $(ready)  ## a controller to try things by hand; prints its address and token
	@.venv/bin/releasehand-controller try

docs: $(ready)  ## draw the diagrams and write the tables of docs/ that are made from the code
	@$(python) scripts/diagrams.py
	@$(python) scripts/reference.py

lock: $(ready)  ## resolve the libraries again and write both lock files
	@scripts/lock.sh

clean:  ## remove what the targets made
	rm -rf .venv .venv-lock .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(ready): requirements-dev.txt pyproject.toml releasehand/pyproject.toml
	@scripts/venv.sh
