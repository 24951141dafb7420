"""Tokens of a dataset, computed once: training the dynamics never touches pixels.

What a frame's tokens are depends on where the encoder began, because it is causal in time: the
first frame of a sequence is spelled out, later ones say "as before". A dream begins with an empty
past at its first real frame, so its training windows must, too. Hence tokens are those of *fresh
windows*: the frames ``[start, start + length)`` encoded with nothing before them, for every
`stride`-th start. By causality their first k frames have the very tokens that a dream sees which
starts from these k frames. (Streaming through a whole episode instead would leave most windows
without any frame spelled out: a picture that cannot be known from the window.)

A tokenizer that looks at each frame alone has one list of tokens per episode, and windows may
start anywhere. So they may where tokens say what changes: there an episode is followed from its
first frame to its last, and the decoded frames that the dynamics has to see are kept as well. All
this is the same here: an episode has *cells* of `cell` frames, a window is one cell or several
consecutive cells of one frame.

Shapes: B batch, T frames of a window, N tokens per frame.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from world_models.changes import ChangeTokenizer
from world_models.episodes import EpisodeDataset, WindowSampler
from world_models.latent_action import LatentActionModel
from world_models.tokenizer import Tokenizer
from world_models.training.slips import DreamSlips, Slip, Slips
from world_models.training.token_store import TokenStore
from world_models.world import WorldModel

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["CachedWindows", "Cells", "TokenLoader", "action_cells", "fingerprint", "token_cells"]

PACK_CELLS = 256
PACK_FRAMES = 8192  # of episodes that are followed side by side
GPU_PACK_FRAMES = 32768  # there, many take as long as few
BATCH_CELLS = 32
Encode = Callable[..., dict[str, Tensor]]
# No bearing on the codes; which painter it is, and if an overlay, the names of the weights tell.
UNSEEN = ("reconstruction", "revive_after", "decoder_only", "painter", "overlay")


@dataclass(frozen=True, kw_only=True)
class Cells:
    """How an episode is cut and encoded.

    Attributes:
        name: Folder of the cache below the dataset: names the encoder and the cut.
        arrays: What is stored of every cell.
        encode: uint8 frames ``(B, cell, H, W, 3)`` to these arrays, integers ``(B, ...)``.
        cell: Frames encoded together.
        stride: Frames from one cell's start to the next one's.
        follow: `encode` takes whole episodes ``(B, T, H, W, 3)`` instead, their actions
            ``(B, T - 1)``, and a seed of each for what may be drawn, and returns their cells
            ``(B, T, ...)``, each of one frame.
    """

    name: str
    arrays: tuple[str, ...]
    encode: Encode
    cell: int = 1
    stride: int = 1
    follow: bool = False

    def count(self, num_frames: np.ndarray) -> np.ndarray:
        """Cells of episodes with so many frames."""
        return np.maximum((num_frames - self.cell) // self.stride + 1, 0)


def fingerprint(model: nn.Module, decoder: bool = False) -> str:
    """Names what a tokenizer or latent action model encodes to.

    Equal for models whose codes are equal by construction: a decoder may be fine-tuned, and counts
    only where asked for.
    """
    config = {k: repr(v) for k, v in vars(model.config).items() if k not in UNSEEN}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    passed: tuple[str, ...] = ("quantizer.unused", "unused")
    if not decoder:
        passed += tuple(f"{part}." for part in getattr(model, "DECODER", ()))
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith(passed):
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def token_cells(
    tokenizer: Tokenizer,
    length: int,
    stride: int,
    *,
    slips: float = 0.0,
    dreamer: WorldModel | None = None,
    dreamed: float = 0.0,
) -> Cells:
    """Tokens ``(B, cell, N)`` for training windows of `length` frames.

    Where tokens say what changes, also the decoded frame "before" each, uint8 ``(H, W, 3)``, and,
    if something goes wrong on the way, the tokens that were "shown" in place of the right ones.

    Args:
        tokenizer: Of a trained world to be.
        length: Frames of a window.
        stride: See `DynamicsRecipe.token_stride`.
        slips: See `DynamicsRecipe.slips`.
        dreamer: The world that dreams what goes wrong.
        dreamed: See `DynamicsRecipe.dreamed`.
    """
    if isinstance(tokenizer, ChangeTokenizer):
        name = f"tokens/{fingerprint(tokenizer, decoder=True)}" + (f"-{slips:g}" if slips else "")
        if dreamer is not None:
            name += f"-{fingerprint(dreamer.dynamics)}-{dreamed:g}"
        arrays = ("tokens", "before", *(("shown",) if slips or dreamer else ()))
        encode = _followed(tokenizer, slips, dreamer, dreamed)
        return Cells(name=name, arrays=arrays, encode=encode, follow=True)
    if dreamer is not None:
        raise ValueError("dreamed frames are mended by tokens that say what changes; these do not")
    alone = not tokenizer.config.transformer.temporal
    cell, stride = (1, 1) if alone else (length, stride)
    name = f"tokens/{fingerprint(tokenizer)}-{cell}-{stride}"
    encode = _only("tokens", tokenizer.encode)
    return Cells(name=name, arrays=("tokens",), encode=encode, cell=cell, stride=stride)


def action_cells(model: LatentActionModel, length: int, stride: int) -> Cells:
    """Latent actions ``(B, cell - 1)`` for training windows of `length` frames."""
    name = f"latent-actions/{fingerprint(model)}-{length}-{stride}"
    encode = _only("actions", model.actions)
    return Cells(name=name, arrays=("actions",), encode=encode, cell=length, stride=stride)


def _only(name: str, encode: Callable[[Tensor], Tensor]) -> Encode:
    return lambda frames: {name: encode(frames)}


def _followed(
    tokenizer: ChangeTokenizer, slips: float, dreamer: WorldModel | None, dreamed: float
) -> Encode:
    def encode(frames: Tensor, actions: Tensor, seeds: Tensor) -> dict[str, Tensor]:
        faults: list[Slip] = []
        if dreamer is not None:
            faults.append(DreamSlips(dreamer, actions, seeds, dreamed))
        if slips:
            faults.append(Slips(seeds, slips, tokenizer.config.num_codes))
        said: list[Tensor] = []

        def slip(tokens: Tensor, before: Tensor) -> Tensor:
            for fault in faults:
                tokens = fault(tokens, before)
            said.append(tokens)
            return tokens

        tokens, pictures = tokenizer.follow(frames, slip=slip if faults else None)
        cells = {"tokens": tokens, "before": torch.cat((frames[:, :1], pictures[:, :-1]), 1)}
        return cells | ({"shown": torch.stack(said, 1)} if faults else {})

    return encode


def compute(dataset: EpisodeDataset, cells: Cells, fabric: Fabric) -> TokenStore:
    """Encode what is not in the cache yet; all processes share the work."""
    store = TokenStore(dataset.path / cells.name)
    counts = cells.count(dataset.num_frames)
    there = [f"{entry.key}/{cells.arrays[0]}" in store for entry in dataset.entries]
    missing = sorted((i for i in np.flatnonzero(counts) if not there[i]), key=counts.__getitem__)
    mine = missing[fabric.global_rank :: fabric.world_size]
    total = int(counts[mine].sum()) * cells.cell
    quiet = True if not total or not fabric.is_global_zero else None
    with tqdm(total=total, unit="frame", desc=cells.name.split("/")[0], disable=quiet) as bar:
        followed = PACK_FRAMES if fabric.device.type == "cpu" else GPU_PACK_FRAMES
        for group in _groups(mine, counts, followed if cells.follow else PACK_CELLS):
            if cells.follow:
                with fabric.autocast():  # what it gets wrong, the next frame's tokens mend
                    encoded = _follow(dataset, cells, group, fabric.device)
            else:
                encoded = _encode(dataset, cells, group, fabric.device)
            arrays: dict[str, np.ndarray] = {}
            for i, found in zip(group, encoded, strict=True):
                arrays |= {f"{dataset.entries[i].key}/{name}": x for name, x in found.items()}
            store.add(arrays)
            bar.update(int(counts[group].sum()) * cells.cell)
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
        parts = [tokens] if actions is None else [tokens, actions]
        self._parts = [(cells, compute(dataset, cells, fabric)) for cells in parts]
        self._stride = max(cells.stride for cells in parts)
        self.num_starts = np.maximum((dataset.num_frames - length) // self._stride + 1, 0)
        if not self.num_starts.any():
            raise ValueError(
                f"none of the {len(dataset)} episodes in {dataset.path} has {length} frames; "
                "collect longer episodes or train on shorter windows (--frames)"
            )
        names = "+".join(cells.name for cells in parts)
        self.fingerprint = f"{dataset.fingerprint}:{names}"

    def batch(self, places: np.ndarray) -> dict[str, Tensor]:
        """Windows at rows of (episode, number of the start)."""
        rows = [self._window(int(i), int(n) * self._stride) for i, n in places]
        return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

    def with_events(self) -> np.ndarray:
        """The windows that hold a reward or an end: rows of (episode, number of the start)."""
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
        for cells, store in self._parts:
            first, number = start // cells.stride, self.length // cells.cell
            for name in cells.arrays:
                codes = store.rows(f"{key}/{name}", first, first + number)
                codes = codes if cells.cell == 1 else codes[0]
                window[name] = codes.astype(np.int64) if codes.dtype == np.uint16 else codes
        return window


class TokenLoader:
    """Endless random batches of cached windows, each game as often; like `WindowLoader`.

    Args:
        windows: The windows.
        events: Share of windows that are chosen for holding a reward or an end.
        sampler_options: See `WindowSampler`.
    """

    def __init__(self, windows: CachedWindows, *, events: float = 0.0, **sampler_options: Any):
        self.windows = windows
        games = windows.dataset.env_numbers
        rare = windows.with_events() if events else None
        if rare is not None and not len(rare):
            raise ValueError(
                f"{windows.dataset.path} has no reward and no end to choose windows for; leave "
                "events at 0, or collect episodes that have some"
            )
        self.sampler = WindowSampler(
            windows.num_starts, groups=games, length=1, rare=rare, rare_share=events,
            **sampler_options,
        )  # fmt: skip

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


def _groups(episodes: list[int], counts: np.ndarray, size: int) -> Iterator[list[int]]:
    """Episodes that are encoded, and stored, together: about `size` cells."""
    group: list[int] = []
    for episode in episodes:
        group.append(int(episode))
        if counts[group].sum() >= size:
            yield group
            group = []
    if group:
        yield group


@torch.no_grad()
def _encode(
    dataset: EpisodeDataset, cells: Cells, group: list[int], device: torch.device
) -> list[dict[str, np.ndarray]]:
    """The arrays of each episode of a group, cells encoded by the batch."""
    pieces = []
    for frames in _frames(dataset, group):
        windows = np.lib.stride_tricks.sliding_window_view(frames, cells.cell, axis=0)
        pieces.append(np.moveaxis(windows[:: cells.stride], -1, 1))  # (cells, cell, H, W, 3)
    batches = torch.from_numpy(np.concatenate(pieces)).split(BATCH_CELLS)
    encoded = [_stored(cells.encode(batch.to(device))) for batch in batches]
    whole = {name: np.concatenate([part[name] for part in encoded]) for name in cells.arrays}
    if cells.cell == 1:
        whole = {name: x[:, 0] for name, x in whole.items()}
    begins = np.cumsum([0, *map(len, pieces)])
    return [{name: x[begin:end] for name, x in whole.items()} for begin, end in pairwise(begins)]


@torch.no_grad()
def _follow(
    dataset: EpisodeDataset, cells: Cells, group: list[int], device: torch.device
) -> list[dict[str, np.ndarray]]:
    """The arrays of each episode of a group, side by side from the first frame to the last."""
    episodes = [torch.from_numpy(frames) for frames in _frames(dataset, group)]
    seeds = torch.tensor([int(dataset.entries[i].key[:15], 16) for i in group], device=device)
    actions = [torch.from_numpy(dataset.actions(i)) for i in group]
    frames, taken = (pad_sequence(x, batch_first=True).to(device) for x in (episodes, actions))
    encoded = _stored(cells.encode(frames, taken, seeds))
    return [
        {name: x[row, : len(episode)] for name, x in encoded.items()}
        for row, episode in enumerate(episodes)
    ]


def _frames(dataset: EpisodeDataset, group: list[int]) -> list[np.ndarray]:
    return [dataset.frames(i, 0, int(dataset.num_frames[i])) for i in group]


def _stored(arrays: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Pixels as they are, codes in two bytes."""
    return {
        name: x.cpu().numpy() if x.dtype == torch.uint8 else x.cpu().numpy().astype(np.uint16)
        for name, x in arrays.items()
    }
