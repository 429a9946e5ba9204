"""What all tests of the arm share."""

from real_time import pytest_collection_modifyitems, pytest_runtest_call, pytest_runtest_setup, pytest_unconfigure

__all__ = ["pytest_collection_modifyitems", "pytest_runtest_call", "pytest_runtest_setup", "pytest_unconfigure"]
