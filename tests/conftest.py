"""Settings for all tests."""

import os

from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # each core has its process: a second thread of PyTorch waits for a core by keeping it busy. Before PyTorch is
    # loaded, and for the programs that tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# no deadline: the first example pays for imports; the same examples in every run
settings.register_profile("equidiff", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("equidiff")
