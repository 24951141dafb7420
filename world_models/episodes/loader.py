"""Batches of windows as torch tensors, read by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from world_models.episodes.dataset import EpisodeDataset
from world_models.episodes.sampler import WindowSampler


class WindowLoader:
    """Endless random batches that resume exactly. All games of a dataset are equally likely.

    Each batch is a dict of tensors: `frames` uint8 (B, T, H, W, 3), `actions` int64,
    `rewards` float32 and `terminated` bool (B, T - 1), `episode` and `start` int64 (B,).

    Args:
        dataset: the episodes.
        num_workers: processes that read ahead; 0 reads in the main process.
        sampler_options: see :class:`WindowSampler` (length, batch_size, seed, rank, world_size).
    """

    def __init__(self, dataset: EpisodeDataset, *, num_workers: int = 0, **sampler_options: Any):
        """Prepare the sampler; nothing is read yet."""
        self.dataset = dataset
        self.num_workers = num_workers
        self.sampler = WindowSampler(
            dataset.num_frames, groups=dataset.env_numbers, **sampler_options
        )

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Continue from the current position."""
        loader = DataLoader(
            _Batches(self.dataset, self.sampler.length),
            sampler=_Ahead(self.sampler),
            batch_size=None,
            num_workers=self.num_workers,
        )
        for batch in loader:
            self.sampler.position += 1  # counts what was received: workers read ahead of it
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The number of batches received so far, and the fingerprint of the data."""
        return self.sampler.state_dict() | {"fingerprint": self.dataset.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next `iter()` continue from the position in `state`."""
        if state["fingerprint"] != self.dataset.fingerprint:
            raise ValueError(
                f"the saved position belongs to other data (fingerprint {state['fingerprint']}, "
                f"this dataset has {self.dataset.fingerprint}); episodes were added or the "
                "selection changed. Start without the saved position to train on this data"
            )
        self.sampler.load_state_dict(state)


class _Batches(Dataset):
    """Reads batches of windows; runs in the worker processes."""

    def __init__(self, dataset: EpisodeDataset, length: int):
        self.dataset = dataset
        self.length = length

    def __getitem__(self, windows: np.ndarray) -> dict[str, torch.Tensor]:
        batch = self.dataset.batch(windows, self.length)
        return {name: torch.from_numpy(array) for name, array in batch.items()}


class _Ahead:
    """The sampler's batches from its position on; the position itself stays."""

    def __init__(self, sampler: WindowSampler):
        self.sampler = sampler

    def __iter__(self) -> Iterator[np.ndarray]:
        number = self.sampler.position
        while True:
            yield self.sampler.batch(number)
            number += 1
