"""Carries what probes measured into the table: which control labels they bear out."""

from __future__ import annotations

from pathlib import Path

from genie_gym.retroact.labels import CONTROLS, Labels
from genie_gym.retroact.probe import ALLOWS
from genie_gym.retroact.roms import read_json

__all__ = ["borne_out", "measured_words"]


def measured_words(folder: Path) -> dict[str, dict[str, str]]:
    """Game -> control -> measured word, out of the results in a folder."""
    results = [read_json(path) for path in sorted(folder.glob("*.json"))]
    return {
        result["game"]: {name: fact["word"] for name, fact in result["controls"].items()}
        for result in results
    }


def borne_out(labels: Labels, words: dict[str, str]) -> list[str]:
    """The controls whose labels agree with what was measured.

    Where they differ a person decides which is wrong, the label or the measurement: a camera that
    follows the figure, or a moment without a ladder, misleads it.
    """
    controls = labels.controls
    return [name for name in CONTROLS if controls.get(name) in ALLOWS[words[name]]]
