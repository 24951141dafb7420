"""Loads batches of windows as torch tensors, in background threads."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

from world_models.episodes.dataset import EpisodeDataset
from world_models.episodes.sampler import WindowSampler

BATCHES_AHEAD = 2  # per worker
Read = Callable[[np.ndarray], dict[str, Any]]  # loads a batch, given rows (episode, start)


class Loader:
    """Endless random batches, which a resumed run continues exactly.

    Args:
        sampler: Chooses the windows of each batch.
        read: Loads these windows.
        fingerprint: Identifies the data.
        num_workers: Number of threads that read ahead; with 0, nothing is read ahead.
    """

    def __init__(self, sampler: WindowSampler, read: Read, fingerprint: str, num_workers: int = 0):
        self.sampler, self.read = sampler, read
        self.fingerprint, self.num_workers = fingerprint, num_workers

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield batches, beginning at the current position."""
        for batch in self._read_ahead() if self.num_workers else map(self._batch, self._numbers()):
            self.sampler.position += 1  # counts received batches: workers read ahead
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the number of batches received so far, and the fingerprint of the data."""
        return self.sampler.state_dict() | {"fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next `iter()` continue from the position in `state`."""
        if state["fingerprint"] != self.fingerprint:
            raise ValueError(
                f"the saved position belongs to other data (fingerprint {state['fingerprint']}, "
                f"now {self.fingerprint}): the episodes or the tokens differ. To train on this "
                "data, choose another --out"
            )
        self.sampler.load_state_dict(state)

    def _numbers(self) -> Iterator[int]:
        return itertools.count(self.sampler.position)

    def _batch(self, number: int) -> dict[str, torch.Tensor]:
        arrays = self.read(self.sampler.batch(number))
        return {name: torch.as_tensor(array) for name, array in arrays.items()}

    def _read_ahead(self) -> Iterator[dict[str, torch.Tensor]]:
        numbers = self._numbers()
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="loader")
        try:
            first = itertools.islice(numbers, BATCHES_AHEAD * self.num_workers)
            batches = deque(pool.submit(self._batch, number) for number in first)
            for number in numbers:
                yield batches.popleft().result()
                batches.append(pool.submit(self._batch, number))
        finally:
            pool.shutdown(cancel_futures=True)


class WindowLoader(Loader):
    """Endless random batches of windows. All games in a dataset are equally likely.

    Each batch is a dict of tensors: `frames` uint8 (B, T, H, W, 3), `actions` int64,
    `rewards` float32 and `terminated` bool (B, T - 1), `episode` and `start` int64 (B,).

    Args:
        dataset: The episodes.
        num_workers: See `Loader`.
        sampler_options: See `WindowSampler`.
    """

    def __init__(self, dataset: EpisodeDataset, *, num_workers: int = 0, **sampler_options: Any):
        sampler = WindowSampler(dataset.num_frames, groups=dataset.env_numbers, **sampler_options)
        read = partial(dataset.batch, length=sampler.length)
        super().__init__(sampler, read, dataset.fingerprint, num_workers)
