"""What holds for every test: how Hypothesis searches.

`HYPOTHESIS_PROFILE=explore` searches with fresh randomness and for longer; the default repeats the same
examples, so that a failure on one machine is a failure on all.
"""

import os

from hypothesis import settings

# No deadline: a shared machine with two cores stalls for longer than any example takes.
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=100)
settings.register_profile("explore", deadline=None, max_examples=2_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
