"""Loads batches of windows as torch tensors, in worker processes."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from world_models.episodes.dataset import EpisodeDataset
from world_models.episodes.sampler import WindowSampler

Read = Callable[[np.ndarray], dict[str, Any]]  # loads a batch, given rows (episode, start)


class WindowLoader:
    """Endless random batches, which a resumed run continues exactly.

    All games in a dataset are equally likely, whatever their number of windows.

    Each batch is a dict of tensors: `frames` uint8 (B, T, H, W, 3), `actions` int64,
    `rewards` float32 and `terminated` bool (B, T - 1), `episode` and `start` int64 (B,).

    `num_workers` processes read ahead; with 0, the main process reads. `sampler_options` are passed
    to :class:`WindowSampler`.
    """

    def __init__(self, dataset: EpisodeDataset, *, num_workers: int = 0, **sampler_options: Any):
        self.num_workers, self.fingerprint = num_workers, dataset.fingerprint
        self.sampler = WindowSampler(
            dataset.num_frames, groups=dataset.env_numbers, **sampler_options
        )
        self.read: Read = partial(dataset.batch, length=self.sampler.length)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield batches, beginning at the current position."""
        batches = itertools.count(self.sampler.position)
        loader = DataLoader(
            _Batches(self.read),
            sampler=(self.sampler.batch(number) for number in batches),
            batch_size=None,
            num_workers=self.num_workers,
            worker_init_fn=_keep_garbage,
        )
        for batch in loader:
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


def _keep_garbage(worker: int) -> None:
    """Never garbage-collect the objects that a forked worker inherits.

    A worker aborts if it destroys an object whose threads exist only in the parent, such as an
    emulator.
    """
    gc.freeze()


class _Batches(Dataset):
    """Reads batches of windows; runs in the worker processes."""

    def __init__(self, read: Read):
        self.read = read

    def __getitem__(self, windows: np.ndarray) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(array) for name, array in self.read(windows).items()}
