"""Settings for all tests."""

import pytest
from hypothesis import settings

# no deadline: the first example pays for imports; the same examples in every run
settings.register_profile("equidiff", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("equidiff")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The arm's tests last: some keep real time, beside which no simulation should fill the cores."""
    items.sort(key=lambda item: "real_robot" in item.path.parts)
