"""Compares the control labels in the table with the results of probes."""

from __future__ import annotations

from pathlib import Path

from genie_gym.retroact.labels import CONTROLS, Labels
from genie_gym.retroact.probe import CONFIRMS
from genie_gym.retroact.roms import read_json

__all__ = ["confirmed_controls", "measured_words"]


def measured_words(folder: Path) -> dict[str, dict[str, str]]:
    """Reads a folder of probe results; returns the measured value for each game and control."""
    results = [read_json(path) for path in sorted(folder.glob("*.json"))]
    return {
        result["game"]: {name: fact["word"] for name, fact in result["controls"].items()}
        for result in results
    }


def confirmed_controls(labels: Labels, words: dict[str, str]) -> list[str]:
    """Returns the controls whose labels agree with the measured values `words`.

    If a label and a measured value differ, a person has to decide which of the two is wrong: the
    measurement can fail if a camera follows the character, or if no state has a ladder.
    """
    controls = labels.controls
    return [name for name in CONTROLS if controls.get(name) in CONFIRMS[words[name]]]
