"""Tasks in several processes: answered in their order, without an end, and an error when a process dies."""

import itertools
import os
import time

import pytest

from equidiff.sim.pool import in_order


class Squares:
    """Slower for even numbers; dies at -1."""

    def __init__(self) -> None:
        self.closed = False

    def __call__(self, number: int) -> int:
        if number == -1:
            os._exit(3)
        time.sleep(0.05 * (number % 2 == 0))
        return number * number

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_come_in_order_and_tasks_may_go_on_for_ever(workers: int) -> None:
    with in_order(Squares, ((n,) for n in itertools.count()), workers, lambda task: RuntimeError()) as made:
        assert list(itertools.islice(made, 7)) == [0, 1, 4, 9, 16, 25, 36]
    with in_order(Squares, [(n,) for n in (5, 2, 4)], workers, lambda task: RuntimeError()) as made:
        assert list(made) == [25, 4, 16]


def test_this_process_frees_its_own() -> None:
    maker = Squares()
    with in_order(lambda: maker, [(3,)], 1, lambda task: RuntimeError()) as made:
        assert list(made) == [9]
        assert not maker.closed
    assert maker.closed


def test_a_dead_worker_is_told() -> None:
    with (
        in_order(Squares, [(1,), (-1,), (3,)], 2, lambda task: ValueError(f"near {task[0]}")) as made,
        pytest.raises(ValueError, match="near "),
    ):
        list(made)
