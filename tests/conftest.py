"""Settings for all tests."""

from hypothesis import settings

# no deadline: the first example pays for imports; the same examples in every run
settings.register_profile("equidiff", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("equidiff")
