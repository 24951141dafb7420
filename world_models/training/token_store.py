"""Stores the arrays of episodes in safetensors files. Any process can add arrays."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from world_models.files import atomic_file

__all__ = ["TokenStore"]


class TokenStore:
    """A directory of packs: safetensors files, each with the arrays of some episodes.

    A pack is written atomically and never changes. Packs are memory-mapped, so reading a part of an
    array loads only that part.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._packs: dict[Path, Any] = {}
        self._where: dict[str, Any] = {}
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def refresh(self) -> None:
        """Open the packs that this process or another process has added."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path not in self._packs:
                pack = self._packs[path] = _open(path)
                self._where |= dict.fromkeys(pack.keys(), pack)

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Store the arrays of some episodes as one pack."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        with atomic_file(path, durable=True) as part:
            part.write_bytes(save(dict(arrays)))
        self.refresh()

    def rows(self, key: str, start: int, stop: int) -> np.ndarray:
        """Return the entries [start, stop) of an array along its first axis."""
        return self._where[key].get_slice(key)[start:stop]


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="np")
    except SafetensorError as fault:
        raise ValueError(
            f"{path} is damaged ({fault}); delete it, and the next run computes its tokens again"
        ) from None
