"""Tokens of a dataset, computed once: training the dynamics never touches pixels.

What a frame's tokens are depends on where the encoder began, because it is causal in time: the
first frame of a sequence is spelled out, later ones say "as before". A dream begins with an empty
past at its first real frame, so its training windows must, too. Hence tokens are those of *fresh
windows*: the frames ``[start, start + length)`` encoded with nothing before them, for every
`stride`-th start. By causality their first k frames have the very tokens that a dream sees which
starts from these k frames. (Streaming through a whole episode instead would leave most windows
without any frame spelled out: a picture that cannot be known from the window.)

A tokenizer that looks at each frame alone has one list of tokens per episode, and windows may
start anywhere. Both are the same here: an episode has *cells* of `cell` frames, a window is one
cell or several consecutive cells of one frame.

Shapes: B batch, T frames of a window, N tokens per frame.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from world_models.episodes import EpisodeDataset, WindowSampler
from world_models.latent_action import LatentActionModel
from world_models.tokenizer import Tokenizer
from world_models.training.token_store import TokenStore

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["CachedWindows", "Cells", "TokenLoader", "action_cells", "fingerprint", "token_cells"]

PACK_CELLS = 256
BATCH_CELLS = 32
UNSEEN = ("reconstruction", "revive_after", "decoder_only")  # no bearing on the codes


@dataclass(frozen=True, kw_only=True)
class Cells:
    """How an episode is cut and encoded.

    Attributes:
        name: Folder of the cache below the dataset: names the encoder and the cut.
        cell: Frames encoded together.
        stride: Frames from one cell's start to the next one's.
        encode: uint8 frames ``(B, cell, H, W, 3)`` to integers ``(B, ...)``.
    """

    name: str
    cell: int
    stride: int
    encode: Callable[[Tensor], Tensor]

    def count(self, num_frames: np.ndarray) -> np.ndarray:
        """Cells of episodes with so many frames."""
        return np.maximum((num_frames - self.cell) // self.stride + 1, 0)


def fingerprint(model: nn.Module) -> str:
    """Names what a tokenizer or latent action model encodes to.

    Equal for models whose codes are equal by construction: a decoder may be fine-tuned.
    """
    config = {k: repr(v) for k, v in vars(model.config).items() if k not in UNSEEN}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith(("decoder.", "to_patches.", "quantizer.unused")):
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def token_cells(tokenizer: Tokenizer, length: int, stride: int) -> Cells:
    """Tokens ``(B, cell, N)`` for training windows of `length` frames."""
    alone = not tokenizer.config.transformer.temporal
    cell, stride = (1, 1) if alone else (length, stride)
    name = f"tokens/{fingerprint(tokenizer)}-{cell}-{stride}"
    return Cells(name=name, cell=cell, stride=stride, encode=tokenizer.encode)


def action_cells(model: LatentActionModel, length: int, stride: int) -> Cells:
    """Latent actions ``(B, cell - 1)`` for training windows of `length` frames."""
    name = f"latent-actions/{fingerprint(model)}-{length}-{stride}"
    return Cells(name=name, cell=length, stride=stride, encode=model.actions)


def compute(dataset: EpisodeDataset, cells: Cells, fabric: Fabric) -> TokenStore:
    """Encode what is not in the cache yet; all processes share the work."""
    store = TokenStore(dataset.path / cells.name)
    counts = cells.count(dataset.num_frames)
    missing = [i for i in np.flatnonzero(counts) if dataset.entries[i].key not in store]
    mine = missing[fabric.global_rank :: fabric.world_size]
    total = int(counts[mine].sum()) * cells.cell
    quiet = True if not total or not fabric.is_global_zero else None
    with tqdm(total=total, unit="frame", desc=cells.name.split("/")[0], disable=quiet) as bar:
        for group in _groups(mine, counts):
            codes = _encode(dataset, cells, group, fabric.device, bar)
            ends = np.cumsum(counts[group])[:-1]
            keys = [dataset.entries[i].key for i in group]
            store.add(dict(zip(keys, np.split(codes, ends), strict=True)))
    fabric.barrier()
    store.refresh()
    return store


class CachedWindows:
    """Training windows of one or two caches: tokens, and latent actions where they are used.

    Args:
        dataset: The episodes.
        length: Frames T of a window.
        tokens: How tokens are cut.
        actions: How latent actions are cut; without them windows have the true actions.
        fabric: Which process this is.
    """

    def __init__(
        self,
        dataset: EpisodeDataset,
        length: int,
        tokens: Cells,
        actions: Cells | None,
        fabric: Fabric,
    ):
        self.dataset, self.length = dataset, length
        parts = {"tokens": tokens} | ({} if actions is None else {"actions": actions})
        self._parts = {k: (cells, compute(dataset, cells, fabric)) for k, cells in parts.items()}
        self._stride = max(cells.stride for cells in parts.values())
        self.num_starts = np.maximum((dataset.num_frames - length) // self._stride + 1, 0)
        if not self.num_starts.any():
            raise ValueError(
                f"none of the {len(dataset)} episodes in {dataset.path} has {length} frames; "
                "collect longer episodes or train on shorter windows (--frames)"
            )
        names = "+".join(cells.name for cells in parts.values())
        self.fingerprint = f"{dataset.fingerprint}:{names}"

    def batch(self, places: np.ndarray) -> dict[str, Tensor]:
        """Windows at rows of (episode, number of the start)."""
        rows = [self._window(int(i), int(n) * self._stride) for i, n in places]
        return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

    def _window(self, index: int, start: int) -> dict[str, Any]:
        window = self.dataset.transitions(index, start, self.length)
        for name, (cells, store) in self._parts.items():
            first, number = start // cells.stride, self.length // cells.cell
            codes = store.rows(self.dataset.entries[index].key, first, first + number)
            window[name] = codes.astype(np.int64).reshape(-1, *codes.shape[2:])
        return window


class TokenLoader:
    """Endless random batches of cached windows, each game as often; like `WindowLoader`."""

    def __init__(self, windows: CachedWindows, **sampler_options: int):
        self.windows = windows
        games = windows.dataset.env_numbers
        self.sampler = WindowSampler(windows.num_starts, groups=games, length=1, **sampler_options)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Continue from the current position."""
        for places in self.sampler:
            yield self.windows.batch(places)

    def state_dict(self) -> dict[str, Any]:
        """How many batches were handed out, and of what."""
        return self.sampler.state_dict() | {"fingerprint": self.windows.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        if state["fingerprint"] != self.windows.fingerprint:
            raise ValueError(
                "the checkpoint was trained on other episodes or on other tokens: "
                f"{state['fingerprint']} instead of {self.windows.fingerprint}. Start a new run "
                "for this data (another --out, or --from a world made of the old run)"
            )
        self.sampler.load_state_dict(state)


def _groups(episodes: list[Any], counts: np.ndarray) -> Iterator[list[int]]:
    group: list[int] = []
    for episode in episodes:
        group.append(int(episode))
        if counts[group].sum() >= PACK_CELLS:
            yield group
            group = []
    if group:
        yield group


@torch.no_grad()
def _encode(
    dataset: EpisodeDataset, cells: Cells, group: list[int], device: torch.device, bar: tqdm
) -> np.ndarray:
    """Codes of all cells of a group of episodes, as uint16."""
    pieces, codes = [], []
    for i in group:
        frames = dataset.frames(i, 0, int(dataset.num_frames[i]))
        windows = np.lib.stride_tricks.sliding_window_view(frames, cells.cell, axis=0)
        pieces.append(np.moveaxis(windows[:: cells.stride], -1, 1))  # (cells, cell, H, W, 3)
    everything = np.concatenate(pieces)
    for begin in range(0, len(everything), BATCH_CELLS):
        batch = torch.from_numpy(everything[begin : begin + BATCH_CELLS]).to(device)
        codes.append(cells.encode(batch).cpu().numpy().astype(np.uint16))
        bar.update(len(batch) * cells.cell)
    return np.concatenate(codes)
