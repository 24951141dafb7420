"""Converts the state of one dream to bytes and back."""

from __future__ import annotations

import torch
from safetensors.torch import load, save

from world_models.inference.state import WorldState

__all__ = ["from_bytes", "to_bytes"]


def to_bytes(state: WorldState) -> bytes:
    """Packs the state of a dream into bytes."""
    return save({name: x.cpu().contiguous() for name, x in state.tensors().items()})


def from_bytes(data: bytes, device: torch.device) -> WorldState:
    """Unpacks the result of `to_bytes` on a device."""
    return WorldState.from_tensors({name: x.to(device) for name, x in load(data).items()})
