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

__all__ = ["atomic_directory", "remove_leftovers", "replace_text", "write_json"]

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
    part = path.parent / f"{path.name}{_PART}{uuid.uuid4().hex[:8]}"
    part.mkdir()
    try:
        yield part
        for file in [*part.rglob("*"), part]:
            _sync(file)
        if path.exists():
            old = part.with_name(part.name + "-old")
            path.rename(old)
            part.rename(path)
            shutil.rmtree(old)
        else:
            part.rename(path)
        _sync(path.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def remove_leftovers(parent: Path) -> None:
    """Delete what killed writers left half-written in `parent`; call it when none is at work."""
    for part in parent.glob(f"*{_PART}*"):
        shutil.rmtree(part)


def replace_text(path: Path, text: str) -> None:
    """Write a file, or another in its place: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


def write_json(path: Path, value: Any) -> None:
    """`replace_text` with a value, for people and programs."""
    replace_text(path, json.dumps(value, indent=1) + "\n")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
