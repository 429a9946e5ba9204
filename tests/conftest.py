"""Settings for all tests."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # each core has its process: a second thread of PyTorch waits for a core by keeping it busy. Before PyTorch is
    # loaded, and for the programs that tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# no deadline: the first example pays for imports; the same examples in every run
settings.register_profile("equidiff", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("equidiff")


@pytest.fixture(autouse=True)
def _logging_stays() -> Iterator[None]:
    """Hydra sets up logging for the program that it starts; where that is a test, to an output that ends with it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
