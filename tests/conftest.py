"""What holds for every test: how Hypothesis searches, and what the garbage collector need not look at.

`HYPOTHESIS_PROFILE=explore` searches with fresh randomness and for longer; the default repeats the same
examples, so that a failure on one machine is a failure on all.
"""

import gc
import os

from hypothesis import settings

# No deadline: a shared machine with two cores stalls for longer than any example takes.
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=100)
settings.register_profile("explore", deadline=None, max_examples=2_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_finish() -> None:
    """Thousands of tests and the modules under them live to the end: looking at all of them again, each time
    that a test made some garbage, took a tenth of the run."""
    gc.collect()
    gc.freeze()
