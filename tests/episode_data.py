"""Small episodes with known content."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from world_models.episodes import Episode, EpisodeInfo, EpisodeWriter

MEANINGS = ("NOOP", "LEFT", "RIGHT")


def make_episode(
    index: int = 0, length: int = 40, *, size: int = 16, width: int = 20, **info: object
) -> Episode:
    """A scrolling picture that is different for every index."""
    rng = np.random.default_rng(index)
    world = rng.integers(0, 256, (size, width + length + 1, 3), np.uint8)
    values = {
        "env_id": "Test/Scroll-v0",
        "action_set": "test-3",
        "action_meanings": MEANINGS,
        "seed": 7,
        "policy": "random",
        "index": index,
        "code_version": "test",
    }
    return Episode(
        frames=np.stack([world[:, t : t + width] for t in range(length + 1)]),
        actions=rng.integers(0, len(MEANINGS), length),
        rewards=rng.normal(size=length).astype(np.float32),
        terminated=index % 2 == 0,
        truncated=index % 2 == 1,
        info=EpisodeInfo(**(values | info)),
    )


def write_episodes(path: Path, episodes: list[Episode], **options: int) -> None:
    """Write them with one writer."""
    with EpisodeWriter(path, **options) as writer:
        for episode in episodes:
            writer.add(episode)


def assert_equal(a: Episode, b: Episode) -> None:
    """Every field, bit for bit."""
    assert a.info == b.info
    assert (a.terminated, a.truncated) == (b.terminated, b.truncated)
    for name in ("frames", "actions", "rewards"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
