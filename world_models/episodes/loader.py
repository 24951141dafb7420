"""Batches of windows as torch tensors, read by worker processes."""

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

Read = Callable[[np.ndarray], dict[str, Any]]  # loads windows, given as rows, as a batch


class WindowLoader:
    """Endless random batches that resume exactly. All games of a dataset are equally likely.

    Each batch is a dict of tensors: `frames` uint8 (B, T, H, W, 3), `actions` int64,
    `rewards` float32 and `terminated` bool (B, T - 1), `episode` and `start` int64 (B,).

    `num_workers` processes read ahead; 0 reads in the main process. For the other options see
    :class:`WindowSampler`.
    """

    def __init__(self, dataset: EpisodeDataset, *, num_workers: int = 0, **sampler_options: Any):
        self.num_workers, self.fingerprint = num_workers, dataset.fingerprint
        self.sampler = WindowSampler(
            dataset.num_frames, groups=dataset.env_numbers, **sampler_options
        )
        self.read: Read = partial(dataset.batch, length=self.sampler.length)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Continue from the current position."""
        batches = itertools.count(self.sampler.position)
        loader = DataLoader(
            _Batches(self.read),
            sampler=(self.sampler.batch(number) for number in batches),
            batch_size=None,
            num_workers=self.num_workers,
            worker_init_fn=_keep_garbage,
        )
        for batch in loader:
            self.sampler.position += 1  # counts what was received: workers read ahead of it
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The number of batches received so far, and the fingerprint of the data."""
        return self.sampler.state_dict() | {"fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next `iter()` continue from the position in `state`."""
        if state["fingerprint"] != self.fingerprint:
            raise ValueError(
                f"the saved position belongs to other data (fingerprint {state['fingerprint']}, "
                f"now {self.fingerprint}): to other episodes or to other tokens. To train on this "
                "data, choose another --out"
            )
        self.sampler.load_state_dict(state)


def _keep_garbage(worker: int) -> None:
    """Never garbage-collect the objects that a forked worker inherits.

    Destroying an object whose threads only the parent has, such as an emulator, aborts the worker.
    """
    gc.freeze()


class _Batches(Dataset):
    """Reads batches of windows; runs in the worker processes."""

    def __init__(self, read: Read):
        self.read = read

    def __getitem__(self, windows: np.ndarray) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(array) for name, array in self.read(windows).items()}
