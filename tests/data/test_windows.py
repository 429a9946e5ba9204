"""Windows: which steps they hold, what stands beyond the ends, and that batches are copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from demo_files import toy_spec
from hypothesis import given
from hypothesis import strategies as st

from equidiff.data import DataError, Episode, WindowDataset, resting_action, split_episodes
from equidiff.fields import Position, RotationDelta, Scalars
from equidiff.spec import Horizon, Space, Spec


def episode(length: int, first: int = 0, name: str = "demo_0") -> Episode:
    """Observation and action t are first + t."""
    steps = np.arange(first, first + length, dtype=np.float32)
    return Episode(name, {"x": steps[:, None]}, np.stack([steps, -steps], 1))


def test_full_padding_makes_every_step_the_current_one_once() -> None:
    horizon = Horizon(obs=2, predict=6, execute=3)
    windows = WindowDataset([episode(5), episode(7, first=100)], horizon, "full")
    batch = windows.batch(range(len(windows)))
    assert batch["obs"]["x"][:, -1, 0].tolist() == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104, 105, 106]
    assert batch["obs"]["x"][0, :, 0].tolist() == [0, 0]
    assert batch["action"][0, :, 0].tolist() == [0, 0, 1, 2, 3, 4]
    assert batch["action"][4, :, 0].tolist() == [3, 4, 4, 4, 4, 4]
    assert batch["obs"]["x"][5, :, 0].tolist() == [100, 100]  # never reaches into the episode before


def test_published_padding_counts_as_diffusion_policy_does() -> None:
    horizon = Horizon(obs=2, predict=16, execute=8)
    windows = WindowDataset([episode(40), episode(30, first=100)], horizon, "published")
    # SequenceSampler: starts from -pad_before to T - horizon + pad_after
    assert len(windows) == sum(t - 16 + 7 + 1 + 1 for t in (40, 30))
    batch = windows.batch(range(len(windows)))
    current = batch["obs"]["x"][:, -1, 0]
    assert current[:2].tolist() == [0, 1]
    last = 40 - 16 + 7 + 1
    assert batch["action"][last, :, 0].tolist() == [*range(31, 40), *[39] * 7]


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    obs=st.integers(1, 3),
    execute=st.integers(1, 4),
    extra=st.integers(0, 5),
)
def test_windows_hold_consecutive_steps_of_one_episode(lengths: list[int], obs: int, execute: int, extra: int) -> None:
    horizon = Horizon(obs=obs, predict=obs - 1 + execute + extra, execute=execute)
    windows = WindowDataset([episode(n, first=100 * i) for i, n in enumerate(lengths)], horizon, "full")
    assert len(windows) == sum(lengths)
    batch = windows.batch(range(len(windows)))
    expected = [(100 * i, 100 * i + n - 1, t) for i, n in enumerate(lengths) for t in range(n)]
    for row, (low, high, t) in enumerate(expected):
        start = low + t - (obs - 1)
        want = np.clip(np.arange(start, start + horizon.predict), low, high)
        assert batch["action"][row, :, 0].tolist() == want.tolist()
        assert batch["obs"]["x"][row, :, 0].tolist() == want[:obs].tolist()


def test_relative_motion_rests_beyond_the_ends_and_the_gripper_stays() -> None:
    spec = toy_spec("relative", obs=2, predict=6, execute=3)
    rest = resting_action(spec)
    assert rest[:6].tolist() == [0.0] * 6
    assert rest[6].isnan()
    steps = np.arange(1, 5, dtype=np.float32)
    obs = {key: np.ones((4, *shape), np.float32) for key, shape in spec.observation.shapes.items()}
    demo = Episode("demo_0", obs, np.repeat(steps[:, None], 7, 1))
    windows = WindowDataset.of([demo], spec)
    action = windows.batch([0, 3])["action"]
    assert action[0, :, 0].tolist() == [0, 1, 2, 3, 4, 0]
    assert action[0, :, 6].tolist() == [1, 1, 2, 3, 4, 4]
    assert action[1, :, 0].tolist() == [3, 4, 0, 0, 0, 0]
    assert action[1, :, 6].tolist() == [3, 4, 4, 4, 4, 4]


def test_resting_action_of_matrices_and_absolute_targets() -> None:
    assert resting_action(toy_spec("absolute")).isnan().all()
    observation = Space((Position("robot0_eef_pos"),))
    spec = Spec(observation, Space((RotationDelta("turn", storage="matrix"), Scalars("gripper"))))
    assert resting_action(spec)[:9].tolist() == torch.eye(3).flatten().tolist()


def test_batches_are_copies_and_fit_the_spec() -> None:
    spec = toy_spec(obs=2, predict=8, execute=4)
    rng = np.random.default_rng(0)
    obs = {k: rng.normal(size=(9, *s)).astype(np.float32) for k, s in spec.observation.shapes.items()}
    windows = WindowDataset.of([Episode("demo_0", obs, rng.normal(size=(9, 7)).astype(np.float32))], spec)
    batch = windows.batch(torch.tensor([1, 1, 8]))
    spec.check(batch)
    assert batch["action"].dtype == torch.float32
    batch["action"].zero_()
    batch["obs"]["cube_pos"].zero_()
    again = windows.batch([1])
    assert again["action"].abs().sum() > 0
    assert again["obs"]["cube_pos"].abs().sum() > 0


def test_items_equal_batches() -> None:
    windows = WindowDataset([episode(5), episode(4, first=10)], Horizon(predict=3, execute=2))
    batch = windows.batch([2, 7])
    for i, item in enumerate(windows.__getitems__([2, 7])):
        assert torch.equal(item["action"], batch["action"][i])
    assert torch.equal(windows[7]["obs"]["x"], batch["obs"]["x"][1])
    assert torch.equal(windows[-2]["action"], batch["action"][1])
    with pytest.raises(IndexError, match="window 9 of 9"):
        _ = windows[9]


def test_refusals() -> None:
    with pytest.raises(DataError, match="expected 'published' or 'full', got 'none'"):
        WindowDataset([episode(5)], Horizon(), "none")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no episodes"):
        WindowDataset([], Horizon())
    with pytest.raises(DataError, match="no window of 16 steps fits episodes of at most 5"):
        WindowDataset([episode(5)], Horizon(), "published")
    with pytest.raises(DataError, match="one length > 0"):
        Episode("demo_0", {"x": np.zeros((3, 1), np.float32)}, np.zeros((4, 2), np.float32))


def test_split_keeps_demonstrations_whole() -> None:
    episodes = [episode(4, name=f"demo_{i}") for i in range(10)]
    train, valid = split_episodes(episodes, 0.2, seed=3)
    assert len(valid) == 2
    assert sorted(e.name for e in train + valid) == sorted(e.name for e in episodes)
    again = split_episodes(episodes, 0.2, seed=3)
    assert [e.name for e in again[1]] == [e.name for e in valid]
    assert [len(part) for part in split_episodes(episodes[:2], 0.01)] == [1, 1]
    assert split_episodes(episodes, 0.0)[1] == []
    with pytest.raises(DataError, match="at least two demonstrations"):
        split_episodes(episodes[:1], 0.5)
    with pytest.raises(DataError, match="0 <= ratio < 1"):
        split_episodes(episodes, 1.0)
