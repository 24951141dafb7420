"""Loads batches of cached tokens, for training a dynamics model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from world_models.episodes import EpisodeDataset, WindowSampler
from world_models.episodes.loader import Loader
from world_models.training.token_cache import Encoding, cached, compute

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["CachedWindows", "TokenLoader"]


class CachedWindows:
    """Training windows of `length` frames, cached as tokens.

    They contain the true actions. If an encoding `actions` is given, they contain cached latent
    actions instead.
    """

    def __init__(
        self,
        dataset: EpisodeDataset,
        length: int,
        tokens: Encoding,
        actions: Encoding | None,
        fabric: Fabric,
    ):
        self.dataset, self.length = dataset, length
        parts = [tokens] if actions is None else [tokens, actions]
        self._parts = [(encoding, compute(dataset, encoding, fabric)) for encoding in parts]
        self._stride = max(encoding.stride for encoding in parts)
        self.num_starts = np.maximum((dataset.num_frames - length) // self._stride + 1, 0)
        for encoding, store in self._parts:  # damaged episodes are not in the cache
            self.num_starts *= cached(dataset, encoding, store)
        if not self.num_starts.any():
            raise ValueError(
                f"none of the {len(dataset)} episodes in {dataset.path} has {length} frames; "
                "collect longer episodes or train on shorter windows (--frames)"
            )
        names = "+".join(encoding.name for encoding in parts)
        self.fingerprint = f"{dataset.fingerprint}:{names}"

    def batch(self, places: np.ndarray) -> dict[str, Tensor]:
        """Load windows as a batch.

        Each entry of `places` is (episode, number of the start). Starts are numbered within an
        episode, from 0.
        """
        rows = [self._window(int(i), int(n) * self._stride) for i, n in places]
        return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

    def with_events(self) -> np.ndarray:
        """Return the `places` of all windows with a reward or a termination; see `batch`."""
        found: list[tuple[int, int]] = []
        for index in np.flatnonzero(self.num_starts):
            length = int(self.dataset.num_frames[index])
            episode = self.dataset.transitions(int(index), 0, length)
            events = np.flatnonzero((episode["rewards"] != 0) | episode["terminated"])
            starts = np.arange(self.num_starts[index]) * self._stride
            first, last = np.searchsorted(events, [starts, starts + self.length - 1])
            found += [(int(index), int(number)) for number in np.flatnonzero(last > first)]
        return np.array(found, np.int64).reshape(-1, 2)

    def _window(self, index: int, start: int) -> dict[str, Any]:
        window = self.dataset.transitions(index, start, self.length)
        key = self.dataset.entries[index].key
        for encoding, store in self._parts:
            first, number = start // encoding.stride, self.length // encoding.length
            for name in encoding.arrays:
                codes = store.rows(f"{key}/{name}", first, first + number)
                codes = codes if encoding.length == 1 else codes[0]
                window[name] = codes.astype(np.int64) if codes.dtype == np.uint16 else codes
        return window


class TokenLoader(Loader):
    """Endless random batches of cached windows. All games are equally likely.

    Args:
        windows: The windows.
        events: Fraction of the sampled windows, in [0, 1], that come only from the windows with a
            reward or a termination.
        num_workers: See `Loader`.
        sampler_options: See `WindowSampler`.
    """

    def __init__(
        self,
        windows: CachedWindows,
        *,
        events: float = 0.0,
        num_workers: int = 0,
        **sampler_options: Any,
    ):
        rare = windows.with_events() if events else None
        if rare is not None and not len(rare):
            raise ValueError(
                f"no window in {windows.dataset.path} has a reward or a termination; set --events "
                "to 0, or collect episodes with rewards or terminations"
            )
        sampler = WindowSampler(
            windows.num_starts,
            groups=windows.dataset.env_numbers,
            rare=rare,
            rare_share=events,
            **sampler_options | {"length": 1},  # each sample is one start
        )
        super().__init__(sampler, windows.batch, windows.fingerprint, num_workers)
