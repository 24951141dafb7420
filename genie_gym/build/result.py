"""The report at the end of a build: scores, pass/fail gates, and how to use the world model."""

from __future__ import annotations

import json
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from world_models.files import write_json
from world_models.worlds.find import VARIABLE, list_worlds

__all__ = ["gates", "read_result", "report", "write_fault", "write_result"]

_SCORES = (
    ("PSNR, dB", "psnr"),
    ("PSNR over changed pixels, dB", "changed_psnr"),
)
OBEYS = 0.2  # minimum delta PSNR, dB; less is within the noise of a quick check
SURVIVES = 0.8  # minimum survival of a long dream, relative to real frames
MOVES = 0.1  # minimum motion of a long dream, relative to the real game
KINDS = ("", "_copy", "_ceiling")
_OTHERS = (
    ("loss of PSNR by random actions (changed pixels), dB", "delta4_changed_psnr_genie"),
    ("reward precision", "reward_precision"),
    ("reward recall", "reward_recall"),
    ("share of frames 51 to 100 that look like the game", "survival_100"),
    ("share of frames 101 to 200 that look like the game", "survival_200"),
    ("motion of long dreams (1: as the game)", "stability_motion"),
    ("largest ratio of dreamed to real return", "exploit_ratio"),
)


def read_result(path: Path) -> dict[str, Any]:
    """Reads a world's score file: ``figures``, and the ``fault`` if scoring failed."""
    return json.loads(path.read_text())


def write_fault(path: Path, fault: Exception) -> None:
    """Adds the error that stopped the scoring to a world's score file."""
    found = read_result(path) if path.exists() else {"figures": {}}
    write_json(path, {**found, "fault": f"{type(fault).__name__}: {fault}"})


def write_result(
    out: Path, scores: Path, minutes: float, entries: Iterable[Mapping[str, Any]]
) -> None:
    """Writes the result file of ``genie-gym bench fidelity``, with the build's times added.

    The added numbers are ``minutes_given``, ``minutes``, ``cpu_minutes`` and the minutes of each
    stage.

    Args:
        out: The file to write.
        scores: The result file from ``genie-gym bench fidelity``.
        minutes: The time limit of the build.
        entries: The log of the stages.
    """
    took: dict[str, float] = defaultdict(float)
    for entry in entries:
        took["minutes"] += entry.get("seconds", 0) / 60
        took["cpu_minutes"] += entry.get("cpu", 0) / 60
        took[f"minutes_{entry['stage'].partition('-')[0]}"] += entry.get("seconds", 0) / 60
    found = read_result(scores)
    figures = {"minutes_given": minutes, **{k: round(v, 1) for k, v in took.items()}}
    command = " ".join([sys.argv[0], shlex.join(sys.argv[1:])])
    write_json(out, {**found, "command": command, "figures": {**figures, **found["figures"]}})


def gates(figures: Mapping[str, float]) -> dict[str, bool]:
    """Returns, for each property of a good world, whether this world has it."""
    known = defaultdict(lambda: float("nan"), figures)  # NaN: a score that could not be measured
    found = {
        "better than repeating the last frame": known["changed_psnr"] > known["changed_psnr_copy"],
        "obeys its actions": known["delta4_changed_psnr_genie"] > OBEYS,
    }
    if frames := int(figures.get("stability_frames", 0)):
        for mark in (200, 100):
            if (kept := figures.get(f"survival_{mark}")) is not None:
                looks_real = kept >= SURVIVES * figures["survival_real"]
                found[f"after {mark} frames it still looks like the game"] = looks_real
                break
        frozen = figures["stability_flat"] > 0 or figures["stability_frozen"] >= 0.5
        moves = figures.get("stability_motion", 1) > MOVES and not frozen
        found[f"after {frames} frames it still moves, and is not flat"] = moves
    if "exploit_gate" in figures:
        found["rewards no tested policy much more than the game does"] = (
            figures["exploit_gate"] == 1
        )
    return found


def report(result: Mapping[str, Any], world: Path, strip: Path) -> str:
    """Returns the text that is printed at the end of a build."""
    lines = _table(result["figures"], strip) if result["figures"] else []
    if "fault" in result:
        lines += [
            f"the check failed: {result['fault']}",
            "see build.log; to check it again: "
            f"genie-gym bench fidelity {shlex.quote(str(world))} --record",
        ]
    return "\n".join(
        [
            *lines,
            f"the world: {world}",
            "to use it:",
            *(() if list_worlds().get(world.name) == world else (_export(world),)),
            f'  import gymnasium, genie_gym; env = gymnasium.make("GenieRedux/{world.name}-v0")',
        ]
    )


def _table(figures: Mapping[str, float], strip: Path) -> list[str]:
    """Returns the lines with the scores, the gates, and the path of the film strip."""
    dreamed = f"after 1 real frame, {figures.get('steps', 10):.0f} dreamed"
    lines = [f"{dreamed:<52}{'dream':>8}{'copying':>9}{'ceiling':>9}"]
    for title, name in _SCORES:
        numbers = [figures.get(f"{name}{kind}", float("nan")) for kind in KINDS]
        lines.append(f"  {title:<50}" + "".join(f"{number:>9.2f}" for number in numbers)[1:])
    lines += [f"  {t:<50}{figures[name]:>8.2f}" for t, name in _OTHERS if name in figures]
    lines += [f"  {'yes' if holds else 'NO ':<4}{gate}" for gate, holds in gates(figures).items()]
    return [*lines, f"film strip (real, dream, error): {strip}"]


def _export(world: Path) -> str:
    """Returns the shell command that makes `gymnasium.make` find this world first."""
    return f"  export {VARIABLE}={shlex.quote(str(world.parent))}"
