"""Rollouts: reproducible whatever the workers do, loud when something breaks."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rollout_toys import PointEnv, broken_env
from torch import Tensor, nn

from equidiff.config import ConfigError
from equidiff.diffusion import Generators, draw
from equidiff.fields import Displacement, Position
from equidiff.policy import ActionChunk
from equidiff.sim.evaluate import RolloutEvaluator, evaluate_checkpoint
from equidiff.sim.rollouts import Episode, Footage, RolloutError, Rollouts, summarise
from equidiff.spec import Batch, Horizon, Space, Spec

SEEDS = list(range(100, 113))


class SeekPolicy(nn.Module):
    """Noisy steps to the goal, through matrix products whose rounding depends on the batch size."""

    def __init__(self, obs: int = 2, noise: float = 0.05) -> None:
        super().__init__()
        self.spec = Spec(
            observation=Space((Position("point_pos"), Position("goal_pos"))),
            action=Space((Displacement("move"),)),
            horizon=Horizon(obs=obs, predict=8, execute=4),
        )
        self.noise = noise
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.wide = nn.Linear(6, 257)
        self.batches: list[int] = []
        self.histories: list[Mapping[str, Tensor]] = []

    def fit(self, batches: Iterable[Batch]) -> None:
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        raise NotImplementedError

    def act(self, obs: Mapping[str, Tensor], noise: Tensor | None = None, generator: Generators = None) -> ActionChunk:
        self.spec.check_observation(obs)
        assert isinstance(generator, Sequence)
        assert not self.training
        point, goal = obs["point_pos"][:, -1], obs["goal_pos"][:, -1]
        self.batches.append(len(point))
        self.histories.append(obs)
        hidden = torch.sin(3e7 * self.wide(torch.cat([point, goal], -1)))[:, :3]  # blows up rounding errors
        step = 0.2 * (goal - point)[:, None] + 0.1 * hidden[:, None]
        predicted = step + self.noise * draw((len(point), 8, 3), generator)
        return ActionChunk(predicted[:, self.spec.horizon.executed], predicted)


class LostPolicy(SeekPolicy):
    """Gives NaN."""

    def act(self, obs: Mapping[str, Tensor], noise: Tensor | None = None, generator: Generators = None) -> ActionChunk:
        chunk = super().act(obs, noise, generator)
        return ActionChunk(chunk.action * torch.nan, chunk.predicted)


def run(
    make_env: object = PointEnv, policy: SeekPolicy | None = None, seeds: list[int] = SEEDS, **options: object
) -> list[Episode]:
    settings = {"horizon": 22, "workers": 1, "batch": 3, **options}
    with Rollouts(make_env, **settings) as rollouts:  # type: ignore[arg-type]
        return rollouts.run(policy or SeekPolicy(), seeds, progress=False)


@pytest.fixture(scope="module")
def reference() -> list[Episode]:
    return run()


def test_episodes_come_in_the_order_of_the_seeds_and_run_to_the_horizon(reference: list[Episode]) -> None:
    assert [e.seed for e in reference] == SEEDS
    assert {e.steps for e in reference} == {22}
    assert 0 < sum(e.success for e in reference) < len(SEEDS)  # else the other tests prove nothing
    assert all(e.success_any or not e.success for e in reference)


def test_results_do_not_depend_on_workers_order_or_companions(reference: list[Episode]) -> None:
    assert _outcomes(run(workers=2)) == _outcomes(reference)
    assert _outcomes(run(workers=3, seeds=SEEDS[::-1])[::-1]) == _outcomes(reference)
    assert _outcomes(run(seeds=SEEDS[4:5])) == _outcomes(reference[4:5])


def test_results_do_not_depend_on_how_many_episodes_there_are(
    reference: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer episodes than the batch has rows: the policy still sees the whole batch."""
    policy = SeekPolicy()
    monkeypatch.setattr("equidiff.sim.env.make_env", lambda *_, **__: PointEnv())
    monkeypatch.setattr("equidiff.sim.task.Task.from_config", lambda _: SimpleNamespace(horizon=22))
    evaluator = RolloutEvaluator({}, "relative", n=2, seed=SEEDS[0], batch=3)
    assert evaluator.rollouts.batch == 3
    evaluator.rollouts.make_env = PointEnv
    rates = evaluator(policy, 1)
    evaluator.close()
    assert set(policy.batches) == {3}
    assert rates["success"] == sum(e.success for e in reference[:2]) / 2


@pytest.mark.parametrize(("name", "value"), [("n", 0), ("n", 1.5), ("seed", -1)])
def test_numbers_of_an_evaluation_are_checked(monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    monkeypatch.setattr("equidiff.sim.task.Task.from_config", lambda _: SimpleNamespace(horizon=22))
    with pytest.raises(ConfigError, match=rf"^evaluation\.{name}: expected a whole number >= \d, got {value}"):
        RolloutEvaluator({}, "relative", **{name: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"^{name}: expected a whole number >= \d, got {value}"):
        evaluate_checkpoint("nowhere", **{name: value})  # type: ignore[arg-type]


def test_policy_sees_one_batch_size_and_a_history_that_starts_with_repeats() -> None:
    policy = SeekPolicy(obs=3)
    policy.train()
    run(policy=policy, seeds=[5], horizon=6)
    assert policy.training
    assert policy.batches == [3, 3]
    first, second = (h["point_pos"][0] for h in policy.histories)
    assert first.shape == (3, 3)
    assert (first == first[0]).all()
    assert len(second.unique(dim=0)) == 3
    assert set(policy.histories[0]) == {"point_pos", "goal_pos"}  # only what the spec reads


def test_one_pool_serves_several_policies(reference: list[Episode]) -> None:
    with Rollouts(PointEnv, horizon=22, workers=1, batch=3) as rollouts:
        first = rollouts.run(SeekPolicy(), SEEDS, progress=False)
        rollouts.run(SeekPolicy(noise=0.0), SEEDS[:3], progress=False)
        longer = rollouts.run(SeekPolicy(obs=1), SEEDS[:2], progress=False)  # another history: new workers
        again = rollouts.run(SeekPolicy(), SEEDS, progress=False)
    assert _outcomes(first) == _outcomes(again) == _outcomes(reference)
    assert len(longer) == 2
    assert not multiprocessing.active_children()


def test_success_at_the_end_differs_from_success_at_any_step(reference: list[Episode]) -> None:
    stopped = run(stop_on_success=True)
    assert [e.success for e in stopped] == [e.success_any for e in reference]
    assert sum(e.success for e in reference) < sum(e.success_any for e in reference)
    assert all(e.steps == 22 for e in stopped if not e.success)
    assert any(e.steps < 22 for e in stopped)


def test_films_the_first_and_last_state_and_only_the_chosen_seeds() -> None:
    footage = Footage(camera="top", width=6, height=4, every=5)
    with Rollouts(PointEnv, horizon=12, workers=1, batch=1) as rollouts:
        filmed, plain = rollouts.run(SeekPolicy(), [1, 2], footage=footage, film=[1], progress=False)
    assert plain.frames is None
    assert filmed.frames is not None
    assert filmed.frames.shape == (4, 4, 6, 3)
    assert filmed.frames[:, 0, 0, 0].tolist() == [0, 5, 10, 12]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_in_an_environment_names_the_seed(workers: int) -> None:
    with pytest.raises(RolloutError, match=r"seed 104:(?s:.*)fell off the table"):
        run(functools.partial(PointEnv, crash_at=104), workers=workers)
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_names_its_seeds_and_exit_code() -> None:
    with pytest.raises(RolloutError, match=r"exit code 7 .*\b104\b"):
        run(functools.partial(PointEnv, die_at=104))
    assert not multiprocessing.active_children()


def test_a_worker_that_is_killed_may_have_lacked_memory() -> None:
    with pytest.raises(RolloutError, match=r"exit code -9 .*\b104\b.*memory runs out: give fewer workers"):
        run(functools.partial(PointEnv, killed_at=104))


def test_an_environment_that_cannot_be_made_is_reported() -> None:
    with pytest.raises(RolloutError, match=r"while making the environment:(?s:.*)no simulator here"):
        run(broken_env)


def test_a_worker_that_hangs_is_reported_and_ended() -> None:
    began = time.perf_counter()
    with pytest.raises(RolloutError, match=r"no answer .*\b104\b"):
        run(functools.partial(PointEnv, sleep_at=104), seeds=[104], timeout=3.0)
    assert time.perf_counter() - began < 30
    assert not multiprocessing.active_children()


def test_an_action_that_is_not_finite_names_the_seed() -> None:
    with pytest.raises(RolloutError, match="not finite in the episode of seed 100"):
        run(policy=LostPolicy())


def test_interrupt_ends_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    policy = SeekPolicy()
    monkeypatch.setattr(policy, "act", interrupted)
    rollouts = Rollouts(PointEnv, horizon=22, workers=2)
    with pytest.raises(KeyboardInterrupt):
        rollouts.run(policy, SEEDS, progress=False)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("option", ["horizon", "workers", "batch"])
def test_settings_are_checked(option: str) -> None:
    for value in (0, 2.5, "two"):
        with pytest.raises(ConfigError, match=f"rollouts.{option}: expected a whole number >= 1, got {value!r}"):
            Rollouts(PointEnv, **{"horizon": 5, option: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="different seeds"):
        Rollouts(PointEnv, horizon=5).run(SeekPolicy(), [1, 1])


def test_summary_holds_every_episode(reference: list[Episode]) -> None:
    result = summarise(reference, task="point", checkpoint="c", policy="seek", wall_s=1.0, horizon=22)
    assert result.at_end.successes == sum(e.success for e in reference)
    assert result.to_json()["seeds"] == SEEDS
    assert result.details == {"horizon": 22}


def _outcomes(episodes: list[Episode]) -> list[tuple[int, bool, bool, int]]:
    return [(e.seed, e.success, e.success_any, e.steps) for e in episodes]


def test_frames_do_not_take_part_in_comparisons() -> None:
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    assert Episode(1, True, True, 3, frames=frames) == Episode(1, True, True, 3)
