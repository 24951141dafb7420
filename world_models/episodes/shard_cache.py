"""Keeps recently read shards open."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from world_models.episodes.shard import ShardReader

MAX_OPEN_SHARDS = 256


class ShardCache(threading.local):
    """Holds open shards.

    Each thread opens its own, so that none closes a shard while another reads it. Each process also
    opens its own, because HDF5 does not survive a fork.
    """

    def __init__(self) -> None:
        self._readers: OrderedDict[Path, ShardReader] = OrderedDict()
        self._process = os.getpid()

    def get(self, path: Path) -> ShardReader:
        """Return the open shard at `path`."""
        if self._process != os.getpid():
            self._readers, self._process = OrderedDict(), os.getpid()
        if path not in self._readers:
            self._readers[path] = ShardReader(path)
        self._readers.move_to_end(path)
        if len(self._readers) > MAX_OPEN_SHARDS:
            self._readers.popitem(last=False)[1].close()
        return self._readers[path]

    def __reduce__(self) -> tuple[type[ShardCache], tuple[Any, ...]]:
        return ShardCache, ()
