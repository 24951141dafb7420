"""What a build tells at its end: scores, gates, and how to use the world."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

__all__ = ["gates", "read_figures", "report"]

_SCORES = (
    ("PSNR, dB", "psnr"),
    ("PSNR over changed pixels, dB", "changed_psnr"),
)
OBEYS = 0.2  # dB; less is within the noise of a quick check
KINDS = ("", "_copy", "_ceiling")
_OTHERS = (
    ("loss of PSNR by random actions (changed pixels), dB", "delta4_changed_psnr_genie"),
    ("reward precision", "reward_precision"),
    ("reward recall", "reward_recall"),
    ("most that the dream overpays, times", "exploit_ratio"),
)


def read_figures(path: Path) -> dict[str, float]:
    """Returns the figures of a result file of ``genie-gym bench``."""
    return json.loads(path.read_text())["figures"]


def gates(figures: Mapping[str, float]) -> dict[str, bool]:
    """Returns which of the properties hold that a world should have."""
    frames = int(figures.get("stability_frames", 0))
    known = defaultdict(lambda: float("nan"), figures)  # a score that could not be taken
    survives = figures.get("stability_flat", 0) == 0 and figures.get("stability_frozen", 0) < 0.5
    return {
        "better than repeating the last frame": known["changed_psnr"] > known["changed_psnr_copy"],
        "obeys its actions": known["delta4_changed_psnr_genie"] > OBEYS,
        f"survives {frames} frames": survives,
        "pays for no play that earns nothing": figures.get("exploit_gate", 1) == 1,
    }


def report(figures: Mapping[str, float], world: Path, strip: Path) -> str:
    """Returns the text that is printed at the end of a build."""
    lines = [f"{'after 1 real frame, 10 dreamed':<52}{'dream':>8}{'copying':>9}{'ceiling':>9}"]
    for title, name in _SCORES:
        numbers = [figures.get(f"{name}{kind}", float("nan")) for kind in KINDS]
        lines.append(f"  {title:<50}" + "".join(f"{number:>9.2f}" for number in numbers)[1:])
    lines += [f"  {t:<50}{figures[name]:>8.2f}" for t, name in _OTHERS if name in figures]
    lines += [f"  {'yes' if holds else 'NO ':<4}{gate}" for gate, holds in gates(figures).items()]
    return "\n".join(
        [
            *lines,
            f"film strip (real, dream, error): {strip}",
            f"the world: {world}",
            "to use it:",
            f'  import gymnasium, genie_gym; env = gymnasium.make("GenieRedux/{world.name}-v0")',
        ]
    )
