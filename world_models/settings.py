"""Saves a job's settings in the job's folder, so that it is resumed with the same settings."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from world_models.files import write_json

__all__ = ["begin"]


def begin(
    path: Path, settings: Mapping[str, Any], may_change: Collection[str] = (), *, write: bool = True
) -> dict[str, str]:
    """Save the settings of a new job as JSON, or check that a resumed job has the same settings.

    If several processes run the job, only one should set `write`.

    Returns:
        The settings in `may_change` that differ, each with a description of the difference. The
        file keeps the original values.

    Raises:
        ValueError: If any other setting differs. The message states both values and what to do.
    """
    wanted = json.loads(json.dumps(settings, default=str))
    if not path.exists():
        if write:
            write_json(path, wanted)
        return {}
    try:
        saved = json.loads(path.read_text())
    except json.JSONDecodeError as fault:
        raise ValueError(
            f"{path} cannot be read: {fault}; delete it or choose another --out"
        ) from None
    changes = {}
    for name in {**wanted, **saved}:
        change = _difference(name, saved.get(name), wanted.get(name))
        if change is None:
            continue
        if name not in may_change:
            raise ValueError(
                f"{path.parent} was started with {change}: use the same settings to resume it, or "
                "choose another --out"
            )
        changes[name] = change
    return changes


def _difference(name: str, saved: Any, wanted: Any) -> str | None:
    """Describe the first difference between two JSON values; None if they are equal."""
    if saved == wanted:
        return None
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for key in sorted(saved.keys() | wanted.keys()):
            change = _difference(f"{name}.{key}", saved.get(key), wanted.get(key))
            if change is not None:
                return change
    return f"{name} {saved}, not {wanted}"
