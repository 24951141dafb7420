"""The state of a dream: everything from the past that future frames depend on.

A *row* is one batch item: rows are independent games.

Shapes: B batch, N tokens per frame, K recent frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from world_models.model.kv_cache import KVCache

__all__ = ["WorldState", "merge_rows"]


@dataclass(frozen=True, kw_only=True)
class WorldState:
    """A world model's state for B independent rows.

    Attributes:
        seeds: A random seed for each row, int64 ``(B,)``. A row's next frames depend only on the
            row's own past, actions and seed.
        frames: The last frame of each row, uint8 ``(B, H, W, 3)``: the real frame if it is known,
            otherwise the decoded frame.
        tokens: The tokens of the last frame, ``(B, N)``.
        dynamics: KV cache of the dynamics model.
        decoder: KV cache of the tokenizer's decoder. Set it to None if only real frames will be
            observed, so that no more frames are decoded.
        encoder: KV cache of the tokenizer's encoder. None after an imagined frame, because the
            encoder has not seen that frame.
        recent_frames: The last K frames, uint8 ``(B, K, H, W, 3)``. A dynamics model with a
            `horizon` restarts from these frames when it has used all its positions. None if the
            dynamics model has no `horizon`.
        recent_actions: The actions between the `recent_frames`, ``(B, K - 1)``; None if these are.
    """

    seeds: Tensor
    frames: Tensor
    tokens: Tensor
    dynamics: KVCache
    decoder: KVCache | None
    encoder: KVCache | None
    recent_frames: Tensor | None = None
    recent_actions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.seeds)

    def after_action(self, action: Tensor) -> WorldState:
        """Return this state with the action ``(B,)`` added to `recent_actions`."""
        if (recent := self.recent_actions) is None:
            return self
        return replace(self, recent_actions=torch.cat((recent, action[:, None]), 1)[:, 1:])

    def after_frame(self, frames: Tensor) -> WorldState:
        """Return this state with new last frames ``(B, H, W, 3)``."""
        recent = self.recent_frames
        if recent is not None:
            recent = torch.cat((recent[:, 1:], frames[:, None]), 1)
        return replace(self, frames=frames, recent_frames=recent)

    def clone(self) -> WorldState:
        """Return a copy that shares no memory with this state."""
        return self._map(lambda cache: cache.clone(), lambda x: x.clone())

    def rows(self, index: Tensor) -> WorldState:
        """Return a copy of the rows in ``index`` (int64), in that order; rows may be repeated."""
        return self._map(lambda cache: cache.rows(index), lambda x: x.index_select(0, index))

    def tensor_split(self, num: int) -> list[WorldState]:
        """Split the rows into `num` states whose caches share memory with this state's caches."""
        ends = accumulate((len(part) for part in self.seeds.tensor_split(num)), initial=0)
        return [
            self._map(lambda cache, i=i, j=j: cache.part(i, j), lambda x, i=i, j=j: x[i:j])
            for i, j in pairwise(ends)
        ]

    def joined(self, parts: Sequence[WorldState]) -> WorldState:
        """Join the parts that `tensor_split` made, after each part has taken a step."""
        tensors = {name: torch.cat([getattr(p, name) for p in parts]) for name in self._tensors()}
        caches: dict[str, KVCache | None] = {"encoder": None, "decoder": None}
        for name in parts[0]._caches():
            lengths = torch.cat([getattr(part, name).length for part in parts])
            caches[name] = replace(getattr(self, name), length=lengths)
        return replace(self, **tensors, **caches)  # type: ignore[arg-type]

    def put(self, index: Tensor, other: WorldState) -> WorldState:
        """Replace the rows in ``index`` with the rows of ``other``, and return the new state.

        Caches are overwritten in place. A cache that only one of the two states has is dropped.
        """
        mine, others = self._caches(), other._caches()
        for name in mine.keys() & others.keys():
            mine[name].put(index, others[name])
        lost = {name: None for name in mine.keys() - others.keys()}
        put = {k: x.index_copy(0, index, getattr(other, k)) for k, x in self._tensors().items()}
        return replace(self, **put, **lost)  # type: ignore[arg-type]

    def reseed(self, seeds: Tensor) -> WorldState:
        """Return the same rows with new seeds, int64 ``(B,)``, so that the next frames differ."""
        if seeds.shape != self.seeds.shape or seeds.dtype != torch.int64:
            raise ValueError(
                f"expected int64 seeds {tuple(self.seeds.shape)}, one per batch item, "
                f"got {seeds.dtype} {tuple(seeds.shape)}"
            )
        return replace(self, seeds=seeds)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as a flat dict of tensors, which safetensors can save."""
        flat = self._tensors()
        for name, cache in self._caches().items():
            flat |= {f"{name}.{key}": x for key, x in cache.tensors().items()}
        return flat

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> WorldState:
        """Rebuild a state from the dict that `tensors` returned."""
        caches: dict[str, KVCache | None] = {}
        for name in ("dynamics", "decoder", "encoder"):
            own = {k.partition(".")[2]: x for k, x in tensors.items() if k.startswith(name + ".")}
            caches[name] = KVCache(**own) if own else None
        if caches["dynamics"] is None:
            raise ValueError(
                "expected the dict that WorldState.tensors() returns, but it has only the tensors "
                f"{sorted(tensors)}"
            )
        plain = {name: x for name, x in tensors.items() if "." not in name}
        return cls(**plain, **caches)  # type: ignore[arg-type]

    def _caches(self) -> dict[str, KVCache]:
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: x for name, x in named.items() if isinstance(x, KVCache)}

    def _tensors(self) -> dict[str, Tensor]:
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: x for name, x in plain.items() if isinstance(x, Tensor)}

    def _map(self, on_cache, on_tensor) -> WorldState:  # type: ignore[no-untyped-def]
        return replace(
            self,
            **{name: on_tensor(x) for name, x in self._tensors().items()},
            **{name: on_cache(cache) for name, cache in self._caches().items()},
        )


def merge_rows(
    state: WorldState | None, index: Tensor, fresh: WorldState, num_rows: int
) -> WorldState:
    """Restart some rows of a state.

    Args:
        state: The state of all rows, overwritten in place; None if no row has started yet.
        index: Indices of the rows to restart, int64.
        fresh: The new state of these rows, in the same order.
        num_rows: Total number of rows.

    Returns:
        The state of all rows. Rows that have never started are copies of the first fresh row.
    """
    if state is not None and len(index) < num_rows:
        return state.put(index, fresh)
    sources = torch.zeros(num_rows, dtype=torch.int64, device=index.device)
    sources[index] = torch.arange(len(index), device=index.device)
    return fresh.rows(sources)
