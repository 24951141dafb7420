"""The token cache: a dataset's tokens are computed once, and training then reads them from disk.

A frame's tokens depend on where a causal encoder started: it encodes the first frame of a sequence
in full, and later frames relative to the past. A dream starts with an empty past, so training
windows must also start with an empty past. Therefore the clips ``[start, start + length)`` are
encoded separately, for every `stride`-th start. Because the encoder is causal, the first k frames
of a clip have the same tokens as in a dream that starts from these k frames.

A tokenizer that encodes each frame separately needs only one list of tokens per episode, and
windows can start at any frame. The same holds for a motion tokenizer, which encodes whole episodes.
The frames that a motion tokenizer decodes are also cached, because the dynamics model sees them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from world_models.episodes import EpisodeDataset
from world_models.inference.world import WorldModel
from world_models.model.latent_action import LatentActionModel
from world_models.progress import progress_bar
from world_models.tokenizers.base import Tokenizer
from world_models.tokenizers.motion.tokenizer import MotionTokenizer
from world_models.training.corruption import RandomTokens, SelfForcing
from world_models.training.token_store import TokenStore

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["Encoding", "action_encoding", "cached", "compute", "fingerprint", "token_encoding"]

PACK_CLIPS = 256  # clips per file
PACK_FRAMES = 8192  # frames of whole episodes that are encoded in one batch
GPU_PACK_FRAMES = 32768  # on a GPU, a large batch takes hardly longer than a small one
BATCH_CLIPS = 32
Encoder = Callable[[Tensor], Tensor]
Encode = Callable[..., dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How an episode is cut into clips and encoded.

    Attributes:
        name: Folder of the cache inside the dataset directory. Each combination of encoder and
            clips has its own folder.
        arrays: Names of the arrays that are stored per clip.
        encode: Maps uint8 frames ``(B, length, H, W, 3)`` to these arrays, integers ``(B, ...)``.
        length: Number of frames per clip.
        stride: Number of frames between the starts of successive clips.
        whole: If True, `encode` takes whole episodes: frames ``(B, T, H, W, 3)``, actions
            ``(B, T - 1)`` and one seed per episode ``(B,)``. It returns arrays ``(B, T, ...)``, and
            each frame is a clip of its own.
    """

    name: str
    arrays: tuple[str, ...]
    encode: Encode
    length: int = 1
    stride: int = 1
    whole: bool = False

    def count(self, num_frames: np.ndarray) -> np.ndarray:
        """Return the number of clips in episodes with `num_frames` frames."""
        return np.maximum((num_frames - self.length) // self.stride + 1, 0)


def fingerprint(model: nn.Module, decoder: bool = False) -> str:
    """Return a hash of a model's configuration and weights.

    Tokenizers or latent action models with equal hashes produce equal codes. Fine-tuning a decoder
    does not change the codes, so the decoder's weights are hashed only if `decoder` is True.
    """
    config = {name: repr(value) for name, value in vars(model.config).items()}
    config["type"] = type(model.config).__name__
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    ignored: tuple[str, ...] = () if decoder else getattr(model, "decoder_parts", ())
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith(ignored) and not name.endswith("unused"):  # a training counter
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def token_encoding(
    tokenizer: Tokenizer,
    length: int,
    stride: int,
    corruption: float = 0.0,
    dreamer: WorldModel | None = None,
    self_forcing: float = 0.0,
) -> Encoding:
    """Return an encoding that stores "tokens" ``(B, length, N)`` for windows of `length` frames.

    For a motion tokenizer, it also stores "previous_frames": the decoded frame before each frame,
    uint8 ``(H, W, 3)``. With `corruption` or a `dreamer`, it also stores "input_tokens": the
    corrupted tokens, which were decoded instead of the correct tokens. The `dreamer` is the world
    model that dreams for self-forcing. For the other arguments, see `DynamicsRecipe`.
    """
    if isinstance(tokenizer, MotionTokenizer):
        name = f"tokens/{fingerprint(tokenizer, decoder=True)}"
        name += f"-{corruption:g}" if corruption else ""
        if dreamer is not None:
            sampling = hashlib.sha256(repr(dreamer.sampling).encode()).hexdigest()[:8]
            name += f"-{fingerprint(dreamer.dynamics)}-{sampling}-{self_forcing:g}"
        arrays: tuple[str, ...] = ("tokens", "previous_frames")
        arrays += ("input_tokens",) if corruption or dreamer else ()
        encode = _follow_episodes(tokenizer, corruption, dreamer, self_forcing)
        return Encoding(name=name, arrays=arrays, encode=encode, whole=True)
    given = {"--corruption": corruption, "--self-forcing": self_forcing}
    if ignored := [f"{name} 0" for name, share in given.items() if share]:
        raise ValueError(
            "corruption and self-forcing are only supported for motion tokenizers, but this is a "
            f"{type(tokenizer).__name__}: add {' '.join(ignored)}"
        )
    alone = not tokenizer.config.transformer.temporal
    length, stride = (1, 1) if alone else (length, stride)
    return _by_clips("tokens", tokenizer, "tokens", tokenizer.encode, length, stride)


def action_encoding(model: LatentActionModel, length: int, stride: int) -> Encoding:
    """Return an encoding that stores latent "actions" ``(B, length - 1)`` for training windows.

    The training windows have `length` frames.
    """
    return _by_clips("latent-actions", model, "actions", model.actions, length, stride)


def _by_clips(
    folder: str, model: nn.Module, array: str, encode: Encoder, length: int, stride: int
) -> Encoding:
    return Encoding(
        name=f"{folder}/{fingerprint(model)}-{length}-{stride}",
        arrays=(array,),
        encode=lambda frames: {array: encode(frames)},
        length=length,
        stride=stride,
    )


def _follow_episodes(
    tokenizer: MotionTokenizer, corruption: float, dreamer: WorldModel | None, self_forcing: float
) -> Encode:
    def encode(frames: Tensor, actions: Tensor, seeds: Tensor) -> dict[str, Tensor]:
        faults: list[RandomTokens | SelfForcing] = []
        if dreamer is not None:
            faults.append(SelfForcing(dreamer, actions, seeds, self_forcing))
        if corruption:
            faults.append(RandomTokens(seeds, corruption, tokenizer.space.num_codes))
        decoded: list[Tensor] = []

        def corrupt(tokens: Tensor, previous: Tensor) -> Tensor:
            for fault in faults:
                tokens = fault(tokens, previous)
            decoded.append(tokens)
            return tokens

        tokens, shown = tokenizer.follow(frames, corrupt=corrupt if faults else None)
        previous = torch.cat((frames[:, :1], shown[:, :-1]), 1)
        arrays = {"tokens": tokens, "previous_frames": previous}
        return arrays | ({"input_tokens": torch.stack(decoded, 1)} if faults else {})

    return encode


def compute(dataset: EpisodeDataset, encoding: Encoding, fabric: Fabric) -> TokenStore:
    """Encode the episodes that are not in the cache yet, and return the cache.

    All processes share the work. If the dataset skips damage, damaged episodes are not
    cached.
    """
    store = TokenStore(dataset.path / encoding.name)
    counts = encoding.count(dataset.num_frames)
    there = cached(dataset, encoding, store)
    missing = sorted(np.flatnonzero(~there & (counts > 0)), key=counts.__getitem__)
    fabric.barrier()  # all processes must list the missing episodes before any process adds some
    mine = missing[fabric.global_rank :: fabric.world_size]
    total = int(counts[mine].sum()) * encoding.length
    quiet = True if not total or not fabric.is_global_zero else None
    what = encoding.name.split("/")[0]
    with progress_bar(total=total, unit="frame", desc=what, disable=quiet) as bar:
        frames = PACK_FRAMES if fabric.device.type == "cpu" else GPU_PACK_FRAMES
        for group in _groups(mine, counts, frames if encoding.whole else PACK_CLIPS):
            encode = _encode_whole if encoding.whole else _encode_clips
            if episodes := _frames(dataset, group):
                arrays: dict[str, np.ndarray] = {}
                found = encode(dataset, encoding, episodes, fabric)
                for i, parts in zip(episodes, found, strict=True):
                    arrays |= {f"{dataset.entries[i].key}/{name}": x for name, x in parts.items()}
                store.add(arrays)
            bar.update(int(counts[group].sum()) * encoding.length)
    fabric.barrier()
    store.refresh()
    return store


def cached(dataset: EpisodeDataset, encoding: Encoding, store: TokenStore) -> np.ndarray:
    """Return a bool array that says which of the dataset's episodes are in the cache."""
    return np.array([f"{e.key}/{encoding.arrays[0]}" in store for e in dataset.entries], bool)


def _groups(episodes: list[int], counts: np.ndarray, size: int) -> Iterator[list[int]]:
    """Yield groups of episodes to encode and store together, with about `size` clips per group."""
    group: list[int] = []
    for episode in episodes:
        group.append(int(episode))
        if counts[group].sum() >= size:
            yield group
            group = []
    if group:
        yield group


@torch.no_grad()
def _encode_clips(
    dataset: EpisodeDataset, encoding: Encoding, episodes: dict[int, np.ndarray], fabric: Fabric
) -> list[dict[str, np.ndarray]]:
    """Encode the clips of a group of episodes in batches, and return each episode's arrays."""
    pieces = []
    for frames in episodes.values():
        windows = np.lib.stride_tricks.sliding_window_view(frames, encoding.length, axis=0)
        pieces.append(np.moveaxis(windows[:: encoding.stride], -1, 1))  # (clips, length, H, W, 3)
    batches = torch.from_numpy(np.concatenate(pieces)).split(BATCH_CLIPS)
    encoded = [_stored(encoding.encode(batch.to(fabric.device))) for batch in batches]
    whole = {name: np.concatenate([part[name] for part in encoded]) for name in encoding.arrays}
    if encoding.length == 1:
        whole = {name: x[:, 0] for name, x in whole.items()}
    begins = np.cumsum([0, *map(len, pieces)])
    return [{name: x[begin:end] for name, x in whole.items()} for begin, end in pairwise(begins)]


@torch.no_grad()
def _encode_whole(
    dataset: EpisodeDataset, encoding: Encoding, episodes: dict[int, np.ndarray], fabric: Fabric
) -> list[dict[str, np.ndarray]]:
    """Encode a group of whole episodes in one batch, and return each episode's arrays."""
    seeds = torch.tensor([int(dataset.entries[i].key[:15], 16) for i in episodes])
    actions = [torch.from_numpy(dataset.actions(i)) for i in episodes]
    pixels = [torch.from_numpy(frames) for frames in episodes.values()]
    frames, taken = (pad_sequence(x, batch_first=True) for x in (pixels, actions))
    with fabric.autocast():  # safe: the next frame's tokens correct rounding errors
        encoded = _stored(encoding.encode(*fabric.to_device((frames, taken, seeds))))
    return [
        {name: x[row, : len(episode)] for name, x in encoded.items()}
        for row, episode in enumerate(pixels)
    ]


def _frames(dataset: EpisodeDataset, group: list[int]) -> dict[int, np.ndarray]:
    """Return all frames of each episode; skip damaged episodes if the dataset skips damage."""
    found = {}
    for i in group:
        with dataset.skipping():
            found[i] = dataset.frames(i, 0, int(dataset.num_frames[i]))
    return found


def _stored(arrays: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Convert arrays to numpy. Codes become uint16, and pixels stay uint8."""
    return {
        name: x.cpu().numpy() if x.dtype == torch.uint8 else x.cpu().numpy().astype(np.uint16)
        for name, x in arrays.items()
    }
