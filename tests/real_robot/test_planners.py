"""What all planners do alike, and the one function that they all call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from planner_toys import SPEC, TOKEN, Scripted, answer, checkpoint, policy, request

from equidiff.checkpoint import load_policy
from real_robot.planner import Planner, PlannerError
from real_robot.planners import LocalPlanner, ProcessPlanner, RemotePlanner, run_policy
from real_robot.planners.desk import Desk
from real_robot.planners.run import warm_up
from real_robot.server.serve import PolicyServer
from real_robot.server.thread import serving
from real_robot.types import PlanRequest

pytestmark = pytest.mark.realtime

KINDS = ("local", "process", "remote")
LONG = 60.0  # of a busy machine


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("planners"))


def opened(kind: str, saved: Path) -> Iterator[Planner]:
    if kind == "local":
        planner: Planner = LocalPlanner(load_policy(saved), timeout=LONG, seed=3)
    elif kind == "process":
        planner = ProcessPlanner(saved, timeout=LONG, seed=3, threads=1)
    else:
        with serving(PolicyServer(load_policy(saved), TOKEN, seed=3)) as port:
            planner = RemotePlanner(f"ws://127.0.0.1:{port}", TOKEN, timeout=LONG)
            yield planner
            planner.close()
        return
    yield planner
    planner.close()


@pytest.fixture(scope="module", params=KINDS)
def fresh(request: pytest.FixtureRequest, saved: Path) -> Iterator[Planner]:
    yield from opened(request.param, saved)


@pytest.fixture
def planner(fresh: Planner) -> Planner:
    """With nothing under way."""
    assert fresh.poll() is None
    return fresh


def test_the_first_plan_is_what_the_policy_says(planner: Planner, saved: Path) -> None:
    """The generator is at its beginning, so this test comes first."""
    planner.submit(request(7))
    plan = answer(planner)
    expected = run_policy(load_policy(saved), request(7), torch.Generator().manual_seed(3))
    assert (plan.number, plan.stamp) == (7, 19.5)
    assert plan.actions.dtype == np.float64
    assert plan.actions.shape == (5, 4)
    np.testing.assert_allclose(plan.actions, expected.actions, atol=1e-6)
    assert 0 < plan.computed_in < LONG


def test_knows_its_spec(planner: Planner) -> None:
    assert planner.spec == SPEC


def test_a_plan_is_given_once(planner: Planner) -> None:
    planner.submit(request())
    answer(planner)
    assert planner.poll() is None


def test_one_request_at_a_time(planner: Planner) -> None:
    planner.submit(request(1))
    with pytest.raises(ValueError, match="request 2: 1 is still under way"):
        planner.submit(request(2))
    assert answer(planner).number == 1
    planner.submit(request(2))
    assert answer(planner).number == 2


def test_the_caller_may_reuse_its_arrays(planner: Planner) -> None:
    given = request()
    planner.submit(given)
    for value in given.observation.values():
        value[:] = np.nan
    assert np.isfinite(answer(planner).actions).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"observation": {"at": np.zeros((2, 3))}}, "'grip' is missing"),
        ({"observation": {"at": np.zeros((1, 3)), "grip": np.zeros((2, 1))}}, r"'at' has shape \(1, 3\)"),
        ({"observation": {"at": np.zeros((2, 3)), "grip": np.zeros((2, 1)), "x": np.zeros(1)}}, "does not read 'x'"),
        ({"previous": np.zeros((2, 5))}, "previous: expected"),
        ({"previous": np.zeros((7, 4))}, "previous: expected"),
        ({"previous": np.full((2, 4), np.inf)}, "previous: expected finite"),
        ({"previous": np.zeros((2, 4)), "frozen": 3}, "frozen: expected 0 to 2"),
        ({"frozen": 1}, "frozen: expected 0 to 0"),
    ],
)
def test_refuses_what_does_not_fit_the_spec(planner: Planner, changed: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planner.submit(request(**changed))
    planner.submit(request())
    answer(planner)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "'at' is nan"), (3e38, "not finite")])
def test_tells_of_a_policy_that_fails_and_goes_on(planner: Planner, value: float, message: str) -> None:
    planner.submit(request(value=value))
    with pytest.raises(PlannerError, match=message):
        answer(planner)
    assert planner.poll() is None
    planner.submit(request())
    answer(planner)


def test_takes_the_chunk_under_way(planner: Planner) -> None:
    planner.submit(request(previous=np.zeros((4, 4)), frozen=2))
    assert answer(planner).actions.shape == (5, 4)


def test_closes_once_and_for_all(fresh: Planner) -> None:
    """The last test of the table."""
    fresh.submit(request())
    fresh.close()
    fresh.close()
    with pytest.raises(PlannerError, match="closed"):
        fresh.submit(request())
    with pytest.raises(PlannerError, match="closed"):
        fresh.poll()
    if isinstance(fresh, ProcessPlanner):
        assert not fresh.alive


# -- run_policy ------------------------------------------------------------------------------------------


def test_a_plan_starts_at_the_last_observation() -> None:
    plan = run_policy(Scripted(), request(value=10.0))
    np.testing.assert_array_equal(plan.actions[:, 0], [11, 12, 13, 14, 15])  # row 0 belongs to the step before


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_actions_that_are_not_finite_are_no_plan(value: float) -> None:
    toy = Scripted()
    toy.value = value
    with pytest.raises(PlannerError, match="not finite, first in row 0"):
        run_policy(toy, request())


def test_actions_of_another_shape_are_no_plan() -> None:
    toy = Scripted()
    toy.steps = 4
    with pytest.raises(PlannerError, match=r"shape \(3, 4\), its spec says \(5, 4\)"):
        run_policy(toy, request())


def test_the_generator_decides_the_plan() -> None:
    net = policy()
    a, b = (run_policy(net, request(), torch.Generator().manual_seed(seed)).actions for seed in (0, 0))
    c = run_policy(net, request(), torch.Generator().manual_seed(1)).actions
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3


class Normal(torch.nn.Module):
    """The exact denoiser of actions that are standard normal after normalising: of x, the share `spread` is noise."""

    def __init__(self, signal_squared: torch.Tensor) -> None:
        super().__init__()
        self.spread = (1 - signal_squared).sqrt()

    def forward(self, noisy: torch.Tensor, step: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return self.spread[step][:, None, None] * noisy


def test_a_plan_agrees_with_the_chunk_under_way() -> None:
    """Guided: the frozen rows come near the previous actions, in the right rows, and later ones less and less."""
    net = policy()
    net.diffusion.inference_steps = 10
    net.denoiser = Normal(net.diffusion.scheduler.alphas_cumprod)
    free = run_policy(net, request(), torch.Generator().manual_seed(0)).actions
    previous = np.linspace(-1, 1, 16).reshape(4, 4)
    asked = request(previous=previous, frozen=2)
    steered = run_policy(net, asked, torch.Generator().manual_seed(0)).actions
    before, after = (np.abs(plan[:2] - previous[:2]).max() for plan in (free, steered))
    assert after < 0.1 * before
    shifted = np.abs(steered[1:3] - previous[:2]).max()
    assert after < 0.2 * shifted
    nothing = run_policy(net, request(previous=np.zeros((0, 4))), torch.Generator().manual_seed(0)).actions
    np.testing.assert_array_equal(nothing, free)


def test_more_previous_actions_than_the_plan_has_rows() -> None:
    asked = request(previous=np.zeros((6, 4)), frozen=6)
    assert run_policy(policy(), asked).actions.shape == (5, 4)


def test_warms_up_on_zeros() -> None:
    toy = Scripted()
    assert warm_up(toy) >= 0
    assert toy.calls == 1


# -- the desk --------------------------------------------------------------------------------------------


def test_a_late_answer_is_never_the_next_ones() -> None:
    now = [0.0]
    desk = Desk(1.0, lambda: now[0])
    late = desk.start(SPEC, request(1))
    now[0] = 1.5
    with pytest.raises(PlannerError, match="request 1: no answer within 1 s"):
        desk.poll()
    number = desk.start(SPEC, request(2))
    desk.finish(SPEC, late, np.zeros((5, 4)), 0.1)
    desk.fail(late, "too late to matter")
    assert desk.poll() is None
    desk.finish(SPEC, number, np.ones((5, 4)), 0.1)
    plan = desk.poll()
    assert plan is not None
    assert plan.number == 2
    assert plan.actions[0, 0] == 1


def test_a_loss_is_told_even_if_it_is_over_before_anybody_looks() -> None:
    desk = Desk(1.0)
    number = desk.start(SPEC, request(1))
    desk.lose("cut off")
    desk.regain()
    desk.finish(SPEC, number + 1, np.zeros((5, 4)), 0.1)
    with pytest.raises(PlannerError, match="request 1: cut off"):
        desk.poll()
    assert desk.poll() is None


def test_an_answer_of_the_wrong_shape_is_an_error() -> None:
    desk = Desk(1.0)
    desk.finish(SPEC, desk.start(SPEC, request(1)), np.zeros((4, 4)), 0.1)
    with pytest.raises(PlannerError, match=r"shape \(4, 4\), expected \(5, 4\)"):
        desk.poll()


def test_a_local_policy_that_hangs_does_not_hang_the_loop() -> None:
    toy = Scripted()
    planner = LocalPlanner(toy, timeout=0.05)
    toy.go.clear()
    planner.submit(request(1))
    with pytest.raises(PlannerError, match="no answer within"):
        answer(planner)
    toy.go.set()
    planner.submit(PlanRequest(2, 0.0, request(value=3.0).observation))
    plan = answer_late(planner)
    assert plan == 4.0
    planner.close()


def answer_late(planner: Planner) -> float:
    """The first action of request 2, asked again as often as the short time-out strikes."""
    for _ in range(100):
        try:
            return float(answer(planner).actions[0, 0])
        except PlannerError:
            planner.submit(request(2, value=3.0))
    raise AssertionError("never in time")
