"""Samples random training windows, in an order that a resumed run continues exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


class WindowSampler(Iterator[np.ndarray]):
    """Endless batches of windows; all windows in the dataset (or in a group) are equally likely.

    Batch number b depends only on the seed and b, so the position is the sampler's whole state. All
    ranks draw the same global batch, and each rank takes its own part of it.

    Args:
        num_frames: number of frames in each episode; episodes shorter than `length` have no window.
        length: frames per window.
        batch_size: windows per batch *on each rank*.
        seed: seed of the order.
        rank: index of this process.
        world_size: number of processes.
        groups: group number of each episode, e.g. one number per game. All groups with windows are
            equally likely, whatever their size. None: there are no groups.
        rare: windows to oversample; each row of this array is (episode, start).
        rare_share: fraction of windows, in [0, 1], that are sampled from `rare`.
    """

    def __init__(
        self,
        num_frames: np.ndarray,
        *,
        length: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        groups: np.ndarray | None = None,
        rare: np.ndarray | None = None,
        rare_share: float = 0.0,
    ):
        if length < 1 or batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(
                "length and batch_size must be positive and 0 <= rank < world_size, got "
                f"{length=}, {batch_size=}, {rank=}, {world_size=}"
            )
        if not 0 <= rare_share <= 1:
            raise ValueError(f"rare_share must lie in [0, 1], got {rare_share}")
        self._rare = np.zeros((0, 2), np.int64) if rare is None else rare
        if rare_share and not len(self._rare):
            raise ValueError(
                f"rare_share is {rare_share}, but there are no rare windows to sample; set it to 0"
            )
        counts = np.maximum(np.asarray(num_frames, np.int64) - length + 1, 0)
        if groups is not None and len(groups) != len(counts):
            raise ValueError(
                f"expected one group per episode ({len(counts)}), got {len(groups)} groups"
            )
        # Windows are numbered group by group.
        members = np.zeros(len(counts), np.int64) if groups is None else np.asarray(groups)
        self._order = np.argsort(members, kind="stable")
        self._ends = np.cumsum(counts[self._order])
        if not len(self._ends) or self._ends[-1] == 0:
            raise ValueError(
                f"none of the {len(self._ends)} episodes has {length} frames; collect longer "
                "episodes, use another split, or train on shorter windows"
            )
        sizes = [int(counts[members == group].sum()) for group in np.unique(members)]
        self._sizes = np.array([size for size in sizes if size], np.int64)
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.world_size, self.rare_share = rank, world_size, rare_share
        self.position = 0

    @property
    def num_windows(self) -> int:
        """Number of different windows."""
        return int(self._ends[-1])

    def batch(self, number: int) -> np.ndarray:
        """Return batch `number`: int64 (batch_size, 2), where each row is (episode, start)."""
        rng = np.random.default_rng([self.seed, number])
        size = self.batch_size * self.world_size
        if len(self._sizes) == 1:
            windows = rng.integers(self.num_windows, size=size)
        else:
            group = rng.integers(len(self._sizes), size=size)
            first = np.cumsum(self._sizes) - self._sizes
            windows = first[group] + rng.integers(self._sizes[group])
        places = np.searchsorted(self._ends, windows, side="right")
        before = np.where(places > 0, self._ends[places - 1], 0)
        found = np.stack([self._order[places], windows - before], axis=1)
        if self.rare_share:
            replaced = rng.random(size) < self.rare_share
            found[replaced] = self._rare[rng.integers(len(self._rare), size=size)[replaced]]
        return found[self.rank :: self.world_size]

    def __next__(self) -> np.ndarray:
        self.position += 1
        return self.batch(self.position - 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the position, and the settings for which it is valid."""
        return {"position": self.position} | self._identity()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the position in `state`."""
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise ValueError(
                    f"the saved sampler has {name}={state.get(name)}, but this one has {value}; "
                    "resume with the same data and settings, or choose another --out"
                )
        self.position = state["position"]

    def _identity(self) -> dict[str, float]:
        rare = {"num_rare": len(self._rare), "rare_share": self.rare_share}
        return {
            "num_windows": self.num_windows,
            "length": self.length,
            "total_batch_size": self.batch_size * self.world_size,
            "seed": self.seed,
            "num_groups": len(self._sizes),
            **(rare if self.rare_share else {}),
        }


def sequential_windows(num_frames: np.ndarray, *, length: int, stride: int) -> np.ndarray:
    """Return every `stride`-th window of each episode, for evaluation.

    The result is int64 (N, 2), in order; each row is (episode, start).
    """
    rows = [
        (episode, start)
        for episode, frames in enumerate(num_frames)
        for start in range(0, int(frames) - length + 1, stride)
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)
