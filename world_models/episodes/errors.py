"""Errors for datasets that are damaged or cannot be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DamagedShardError(RuntimeError):
    """A shard or a manifest line does not contain what was written.

    Attributes:
        damage: The damaged file and what is wrong with it.
    """

    def __init__(self, path: Path, reason: str):
        self.damage = f"{path} is damaged: {reason}"
        super().__init__(
            f"{self.damage}. Run `genie-gym data verify {_dataset_of(path)}` to list "
            "all damaged files, and restore them from a copy. To leave them out instead, set "
            "on_damage to skip (EpisodeDataset(..., on_damage='skip') or --on-damage skip)."
        )
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[Path, str]]:
        """Make the error picklable, so that other processes can raise it."""
        return DamagedShardError, (self.path, self.reason)


class StorageError(OSError):
    """The dataset cannot be written. Everything that was written before stays readable."""


@contextmanager
def writing(path: Path, num_bytes: int = 0) -> Iterator[None]:
    """Turn an OSError in the block into a StorageError about writing `path`."""
    try:
        yield
    except OSError as error:
        raise _explained(error, path, num_bytes) from error


def _explained(error: OSError, path: Path, num_bytes: int) -> StorageError:
    reasons = {
        errno.ENOSPC: f"the disk is full ({num_bytes:,} bytes to write)",
        errno.EDQUOT: f"the disk quota is used up ({num_bytes:,} bytes to write)",
        errno.EFBIG: f"a file of {num_bytes:,} bytes is over this process's file size limit "
        "(`ulimit -f`)",
        errno.EACCES: "permission denied; check the owner and mode of the directory",
        errno.EPERM: "permission denied; check the owner and mode of the directory",
        errno.EROFS: "the file system is read-only; choose another output directory",
    }
    reason = reasons.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
    message = f"cannot write {path}: {reason}. Every episode written before is intact."
    return StorageError(error.errno, message)


def _dataset_of(path: Path) -> Path:
    return path.parent.parent if path.parent.name == "shards" else path.parent
