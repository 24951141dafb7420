"""Which windows are drawn, and that a restart goes on with the same ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tests.episode_data import make_episode, write_episodes
from world_models.episodes import EpisodeDataset, WindowSampler, sequential_windows
from world_models.episodes.errors import DamagedShardError
from world_models.episodes.loader import WindowLoader

LENGTHS = np.array([16, 5, 40, 17])


@pytest.fixture
def dataset(tmp_path):
    """Four episodes, one of them shorter than a window."""
    episodes = [make_episode(i, int(frames) - 1) for i, frames in enumerate(LENGTHS)]
    write_episodes(tmp_path, episodes)
    return EpisodeDataset(tmp_path)


def test_every_window_is_equally_likely_and_none_crosses_an_end():
    sampler = WindowSampler(LENGTHS, length=16, batch_size=2800)
    assert sampler.num_windows == 1 + 0 + 25 + 2
    rows, counts = np.unique(sampler.batch(0), axis=0, return_counts=True)
    expected = [(e, s) for e, n in enumerate(LENGTHS) for s in range(max(0, n - 15))]
    assert rows.tolist() == [list(row) for row in expected]
    assert 50 < counts.min() and counts.max() < 160


def test_as_many_windows_as_asked_for_are_rare_ones():
    rare = np.array([[0, 0], [2, 3], [2, 24]])
    plain = WindowSampler(LENGTHS, length=16, batch_size=2000)
    some = WindowSampler(LENGTHS, length=16, batch_size=2000, rare=rare, rare_share=0.4)
    drawn, replaced = plain.batch(0), some.batch(0)
    changed = (drawn != replaced).any(1)
    kinds, counts = np.unique(replaced[changed], axis=0, return_counts=True)
    assert kinds.tolist() == rare.tolist() and counts.min() > 0.25 * changed.sum()
    is_rare = (drawn[:, None] == rare).all(2).any(1)
    assert changed.mean() == pytest.approx(0.4 * (1 - is_rare.mean() / 3), abs=0.03)
    halves = [
        WindowSampler(
            LENGTHS, length=16, batch_size=1000, rare=rare, rare_share=0.4, rank=r, world_size=2
        ).batch(0)
        for r in (0, 1)
    ]
    assert np.array_equal(np.stack(halves, 1).reshape(-1, 2), replaced)
    with pytest.raises(ValueError, match="rare_share must lie"):
        WindowSampler(LENGTHS, length=16, batch_size=1, rare=rare, rare_share=1.5)
    with pytest.raises(ValueError, match="no rare windows"):
        WindowSampler(LENGTHS, length=16, batch_size=1, rare_share=0.5)


def test_batches_depend_on_seed_and_position_only():
    a, b = (WindowSampler(LENGTHS, length=16, batch_size=8, seed=3) for _ in range(2))
    drawn = [next(a) for _ in range(5)]
    state = a.state_dict()
    following = [next(a) for _ in range(3)]
    b.load_state_dict(state)
    np.testing.assert_array_equal([next(b) for _ in range(3)], following)
    np.testing.assert_array_equal(b.batch(4), drawn[4])
    other = WindowSampler(LENGTHS, length=16, batch_size=8, seed=4)
    assert not np.array_equal(other.batch(0), drawn[0])


def test_groups_are_equally_likely_and_windows_within_them():
    groups = np.array([7, 7, 2, 7])  # windows: 1 + 0 + 2 in group 7, 25 in group 2
    sampler = WindowSampler(LENGTHS, length=16, batch_size=6000, groups=groups)
    rows, counts = np.unique(sampler.batch(0), axis=0, return_counts=True)
    expected = [(e, s) for e, n in enumerate(LENGTHS) for s in range(max(0, n - 15))]
    assert rows.tolist() == [list(row) for row in expected]
    share = {(e, s): c for (e, s), c in zip(expected, counts, strict=True)}
    assert all(abs(share[e, s] - 1000) < 120 for e, s in expected if e != 2)
    assert all(abs(share[2, s] - 120) < 50 for s in range(25))
    with pytest.raises(ValueError, match="num_groups"):
        WindowSampler(LENGTHS, length=16, batch_size=6000).load_state_dict(sampler.state_dict())


def test_one_group_draws_what_none_draws():
    plain, grouped = (
        WindowSampler(LENGTHS, length=16, batch_size=8, seed=3, groups=groups)
        for groups in (None, np.zeros(4, np.int64))
    )
    np.testing.assert_array_equal(plain.batch(2), grouped.batch(2))


def test_ranks_share_out_one_batch():
    whole = WindowSampler(LENGTHS, length=16, batch_size=8, seed=1)
    parts = [
        WindowSampler(LENGTHS, length=16, batch_size=2, seed=1, rank=r, world_size=4)
        for r in range(4)
    ]
    for number in range(3):
        together = np.stack([part.batch(number) for part in parts], axis=1).reshape(-1, 2)
        np.testing.assert_array_equal(together, whole.batch(number))


def test_a_state_of_other_data_or_settings_is_refused():
    state = WindowSampler(LENGTHS, length=16, batch_size=8).state_dict()
    for change in ({"length": 8}, {"batch_size": 4}, {"seed": 1}):
        options = {"length": 16, "batch_size": 8, "seed": 0} | change
        with pytest.raises(ValueError, match="the saved sampler has"):
            WindowSampler(LENGTHS, **options).load_state_dict(state)


def test_no_window_at_all_is_a_clear_error():
    with pytest.raises(ValueError, match="none of the 4 episodes has 50 frames"):
        WindowSampler(LENGTHS, length=50, batch_size=1)


def test_sequential_windows_cover_each_episode_in_order():
    windows = sequential_windows(LENGTHS, length=16, stride=16)
    assert windows.tolist() == [[0, 0], [2, 0], [2, 16], [3, 0]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_loader_resumes_to_the_same_batches(dataset, num_workers):
    options = {"length": 16, "batch_size": 4, "seed": 5}
    uninterrupted = list(itertools.islice(WindowLoader(dataset, **options), 7))
    first = WindowLoader(dataset, num_workers=num_workers, **options)
    received = list(itertools.islice(first, 3))
    second = WindowLoader(dataset, num_workers=num_workers, **options)
    second.load_state_dict(first.state_dict())
    received += list(itertools.islice(second, 4))
    for a, b in zip(received, uninterrupted, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_damage_found_while_reading_ahead_is_raised(dataset, num_workers):
    loader = WindowLoader(dataset, length=16, batch_size=4, num_workers=num_workers)
    shard = next(dataset.path.rglob("*.h5"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    shard.write_bytes(data)
    with pytest.raises(DamagedShardError, match="is damaged"):
        list(itertools.islice(loader, 20))


def test_the_loader_gives_the_frames_of_the_episodes(dataset):
    batch = next(iter(WindowLoader(dataset, length=16, batch_size=8, num_workers=1)))
    assert batch["frames"].dtype == torch.uint8 and batch["frames"].shape == (8, 16, 16, 20, 3)
    assert batch["actions"].dtype == torch.int64 and batch["terminated"].dtype == torch.bool
    for row in range(8):
        index, start = int(batch["episode"][row]), int(batch["start"][row])
        truth = make_episode(index, int(LENGTHS[index]) - 1)
        np.testing.assert_array_equal(batch["frames"][row], truth.frames[start : start + 16])
        np.testing.assert_array_equal(batch["rewards"][row], truth.rewards[start : start + 15])


def test_the_loader_refuses_a_position_in_other_data(dataset):
    loader = WindowLoader(dataset, length=16, batch_size=2)
    state = loader.state_dict()
    fewer = dataset.select(where=lambda info: info.index != 3)
    with pytest.raises(ValueError, match="belongs to other data"):
        WindowLoader(fewer, length=16, batch_size=2).load_state_dict(state)
