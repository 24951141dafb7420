"""The settings of long work, kept in its folder: it is gone on with under the same ones only."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from world_models.files import write_json

__all__ = ["begin"]


def begin(
    path: Path,
    settings: Mapping[str, Any],
    may_change: Collection[str] = (),
    *,
    write: bool = True,
) -> dict[str, str]:
    """Write the settings of new work, or check that the work `path` is of has the same.

    Args:
        path: A JSON file in the folder of the work.
        settings: All of them; what JSON does not know is written as text.
        may_change: Names of those that may differ; the file keeps what they were at first.
        write: Whether to write; False for all but one of several processes.

    Returns:
        Which of those that may differ do, and how in words.

    Raises:
        ValueError: Naming the first setting that differs, both values, and what to do.
    """
    wanted = json.loads(json.dumps(settings, default=str))
    if not path.exists():
        if write:
            write_json(path, wanted)
        return {}
    try:
        begun = json.loads(path.read_text())
    except json.JSONDecodeError as fault:
        raise ValueError(f"{path} cannot be read: {fault}; give another --out") from None
    changes = {}
    for name in {**wanted, **begun}:
        change = _difference(name, begun.get(name), wanted.get(name))
        if change is None:
            continue
        if name not in may_change:
            raise ValueError(
                f"{path.parent} was begun with {change}: give the same settings to go on with it, "
                "or another --out"
            )
        changes[name] = change
    return changes


def _difference(name: str, begun: Any, wanted: Any) -> str | None:
    """The first difference of two JSON values, in words; None if they are equal."""
    if begun == wanted:
        return None
    if isinstance(begun, dict) and isinstance(wanted, dict):
        for key in sorted(begun.keys() | wanted.keys()):
            change = _difference(f"{name}.{key}", begun.get(key), wanted.get(key))
            if change is not None:
                return change
    return f"{name} {begun}, not {wanted}"
