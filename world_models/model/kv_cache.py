"""What a causal transformer remembers of the frames it has seen: a ring of keys and values.

Shapes: L temporal layers, P convolutions (PEG), B batch, N tokens per frame, H heads, W past frames
in the window, E width of a head, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["StreamCache", "Trace"]


class Trace(NamedTuple):
    """What a frame leaves behind.

    Attributes:
        keys: Of the frame, ``(L, B, N, H, E)``.
        values: The same.
        tails: What the frame adds to the next one and to the one after, ``(P, 2, B, N, D)``.
    """

    keys: Tensor
    values: Tensor
    tails: Tensor


@dataclass(frozen=True, kw_only=True)
class StreamCache:
    """The past of one transformer for B independent rows.

    A row's new frame is written into slot ``length % W`` of its ring, over the one that leaves the
    window. Where things lie thus depends on the row alone, and so does the order in which they are
    summed: a row has the same future to the bit whatever rows stand beside it. Writing happens in
    place: whoever commits a frame to a cache owns it, and clones it first to keep the old one.

    Attributes:
        keys: ``(L, B, N, H, W, E)``.
        values: ``(L, B, N, H, W, E)``.
        tails: What the convolutions of past frames add to the next frame and to the one after,
            ``(P, 2, B, N, D)``.
        length: How many frames each row has seen, ``(B,)`` int64.
    """

    keys: Tensor
    values: Tensor
    tails: Tensor
    length: Tensor

    def ages(self) -> Tensor:
        """How many frames before the next frame each slot was written, ``(B, W)``, 1 to W."""
        window = self.keys.shape[4]
        slots = torch.arange(window, device=self.keys.device)
        return (self.length[:, None] - 1 - slots) % window + 1

    def write(self, trace: Trace | None) -> StreamCache:
        """Make a frame part of the past, in place; None leaves no trace."""
        if trace is not None:
            if window := self.keys.shape[4]:
                _put(self.keys, self.length % window, trace.keys)
                _put(self.values, self.length % window, trace.values)
            self.tails[:, 0] = self.tails[:, 1] + trace.tails[:, 0]
            self.tails[:, 1] = trace.tails[:, 1]
        return replace(self, length=self.length + 1)

    def clone(self) -> StreamCache:
        """A copy that shares no memory."""
        return StreamCache(**{name: x.clone() for name, x in self.tensors().items()})

    def rows(self, index: Tensor) -> StreamCache:
        """A copy of the rows in ``index`` (int64), in that order; a row may be repeated."""
        return StreamCache(
            keys=self.keys.index_select(1, index),
            values=self.values.index_select(1, index),
            tails=self.tails.index_select(2, index),
            length=self.length.index_select(0, index),
        )

    def put(self, index: Tensor, other: StreamCache) -> None:
        """Replace the rows in ``index`` by those of ``other``."""
        self.keys.index_copy_(1, index, other.keys)
        self.values.index_copy_(1, index, other.values)
        self.tails.index_copy_(2, index, other.tails)
        self.length.index_copy_(0, index, other.length)

    def tensors(self) -> dict[str, Tensor]:
        """Everything as a flat dict of tensors, for saving."""
        return {
            "keys": self.keys,
            "values": self.values,
            "tails": self.tails,
            "length": self.length,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> StreamCache:
        """Undo `tensors`."""
        return cls(**{name: tensors[name] for name in ("keys", "values", "tails", "length")})


def _put(ring: Tensor, slot: Tensor, new: Tensor) -> None:
    """Write a frame ``(L, B, N, H, E)`` into each row's slot ``(B,)``."""
    if slot.device.type == "cpu":  # half the time there
        for row, place in enumerate(slot.tolist()):
            ring[:, row, :, :, place] = new[:, row]
    else:
        rows = torch.arange(len(slot), device=slot.device)
        ring[:, rows, :, :, slot] = new.transpose(0, 1).to(ring.dtype)  # indexed axes come first
