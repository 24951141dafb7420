"""Files and directories that are either complete or not there."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "atomic_directory",
    "atomic_file",
    "remove_leftovers",
    "replace_text",
    "sync",
    "write_json",
]

_PART = ".part-"


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty directory beside `path` that takes its name when the block ends well.

    The files are on disk before the name is. If the block raises, nothing is left behind.

    Args:
        path: The final directory.
        replace: Whether a directory of that name may be there; it is removed at the end.
    """
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists already; choose another place or delete it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path)
    part.mkdir()
    try:
        yield part
        for file in [*part.rglob("*"), part]:
            sync(file)
        if path.exists():
            old = part.with_name(part.name + "-old")
            path.rename(old)
            part.rename(path)
            shutil.rmtree(old)
        else:
            part.rename(path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


@contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a name beside `path`; the file written there replaces `path` when the block ends well.

    A reader never sees half of it. If the block raises, nothing is left behind.

    Args:
        path: The final file, in a directory that is there.
        durable: Whether the file, and then its name, must be on disk before this returns.
    """
    part = _beside(path)
    try:
        yield part
        if durable:
            sync(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Write a text file, or another in its place; the directory is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part:
        part.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """`replace_text` with a value, for people and programs."""
    replace_text(path, json.dumps(value, indent=1) + "\n")


def remove_leftovers(parent: Path) -> None:
    """Delete what killed writers left half-written in `parent`; call it when none is at work."""
    for part in parent.glob(f"*{_PART}*"):
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a directory, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(path: Path) -> Path:
    """A name that no other writer has."""
    return path.with_name(f"{path.name}{_PART}{uuid.uuid4().hex[:8]}")
