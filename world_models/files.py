"""Atomic writes: files and directories that are either complete or absent."""

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
    "remove_directory",
    "remove_leftovers",
    "replace_text",
    "sync",
    "write_json",
]

_PART, _OLD = ".part-", "-old"


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty directory, which is renamed to `path` when the block succeeds.

    The files are synced to disk before the rename. If the block raises, the directory is deleted.

    If a directory already exists at `path`, it is replaced if `replace` is True; otherwise
    FileExistsError is raised. If the process is killed during the replacement, `remove_leftovers`
    restores the old directory.
    """
    if path.exists() and not replace:
        raise FileExistsError(f"{path} already exists; choose another path or delete it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path)
    part.mkdir()
    try:
        yield part
        for file in [*part.rglob("*"), part]:
            sync(file)
        if path.exists():
            old = part.with_name(part.name + _OLD)
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
    """Yield a temporary path. The file written there replaces `path` when the block succeeds.

    Readers never see a partly written file. If the block raises, the temporary file is deleted. If
    `durable` is True, the file and its directory entry are synced to disk.
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
    """Write a text file atomically; its directory is created if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part:
        part.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    replace_text(path, json.dumps(value, indent=1) + "\n")


def remove_directory(path: Path) -> None:
    """Delete a directory. Even if the process is killed, `path` is either complete or absent."""
    part = _beside(path)
    path.rename(part)
    shutil.rmtree(part)


def remove_leftovers(parent: Path) -> None:
    """Delete the temporary files that killed processes left in `parent`.

    If a process was killed while replacing a directory, the old directory is restored. Do not call
    this while any process is writing to `parent`.
    """
    for part in sorted(parent.glob(f"*{_PART}*")):
        path = part.with_name(part.name.rpartition(_PART)[0])
        if part.name.endswith(_OLD) and not path.exists():
            part.rename(path)
        elif part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()


def sync(path: Path) -> None:
    """Flush the content of a file, or the entries of a directory, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(path: Path) -> Path:
    """Return a temporary path in the same directory, which no other writer uses."""
    return path.with_name(f"{path.name}{_PART}{uuid.uuid4().hex[:8]}")
