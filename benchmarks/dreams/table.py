"""Format the results as table rows, for the terminal and for the HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from benchmarks.dreams.exploits import Exploits
from benchmarks.dreams.measure import Measured
from benchmarks.dreams.rates import Rates
from benchmarks.dreams.survival import MARKS
from genie_gym.evaluation.scores import DELTA_STEP

__all__ = ["compared_rows", "exploit_rows", "rate_rows", "table_rows"]

LEVELS = {
    "psnr": "PSNR, all pixels (dB)",
    "changed_psnr": "PSNR, pixels changed since the prompt (dB)",
    "moving_psnr": "PSNR, pixels that just moved (dB)",
    "ssim": "SSIM",
}


def table_rows(measured: Measured, no_fid: str) -> list[dict[str, Any]]:
    """Return table rows for all main metrics; `no_fid` is the reason if FID is missing."""
    return [
        *compared_rows(measured, no_fid),
        *_horizon_rows(measured),
        *_control_rows(measured),
        *_other_rows(measured),
    ]


def compared_rows(measured: Measured, no_fid: str) -> list[dict[str, Any]]:
    """Return rows that compare the dream with copying (floor) and the tokenizer (ceiling)."""
    scores, rows = measured.scores, []
    for name, title in LEVELS.items():
        rows.append(
            {
                "measure": title,
                "dream": scores.mean(name),
                "+-": scores.error(name),
                "copying (floor)": scores.mean(f"{name}_copy"),
                "tokenizer (ceiling)": scores.mean(f"{name}_ceiling"),
            }
        )
    fid = measured.fid
    rows.append(
        {
            "measure": "FID (lower is better)",
            "dream": fid.get("dream", "not available"),
            "copying (floor)": fid.get("copy", no_fid),
            "tokenizer (ceiling)": fid.get("ceiling"),
        }
    )
    return rows


def exploit_rows(exploits: Exploits) -> list[dict[str, Any]]:
    """Return a row for the policy with the largest ratio of dream return to real return."""
    overpaid = exploits.overpaid()
    worst = max(overpaid, key=overpaid.__getitem__)
    dream, real = exploits.returns[worst]
    title = f"most overestimated policy: {worst}, return {dream:.4g} instead of {real:.4g} (ratio)"
    return [{"measure": title, "dream": overpaid[worst]}]


def rate_rows(rates: Sequence[Rates]) -> list[dict[str, Any]]:
    """Return rows with rewards and terminations per 1,000 steps, in long dreams and in the game."""
    return [
        {
            "measure": f"{what} per 1,000 steps, policy {rate.name} ({real:.3g} in the game)",
            "dream": dream,
        }
        for rate in rates
        for what, (dream, real) in (("rewards", rate.rewards), ("terminations", rate.ends))
    ]


def _horizon_rows(measured: Measured) -> list[dict[str, Any]]:
    if measured.horizon is None:
        return []
    figures = measured.horizon.figures()
    return [
        {
            "measure": f"PSNR, all pixels of frame {frame} (dB)",
            "dream": figures[f"horizon_psnr_{frame}"],
            "copying (floor)": figures[f"horizon_psnr_copy_{frame}"],
            "tokenizer (ceiling)": figures[f"horizon_psnr_ceiling_{frame}"],
        }
        for frame in measured.horizon.horizons[2:]
    ]


def _control_rows(measured: Measured) -> list[dict[str, Any]]:
    step = min(DELTA_STEP, measured.windows.num_steps)
    definitions = {
        "psnr_genie": "all actions random",
        "psnr_last_action": "last action replaced",
        "changed_psnr_genie": "all actions random, changed pixels",
    }
    return [
        {
            "measure": f"delta-{step} PSNR, {title} (dB)",
            "dream": measured.scores.curve(f"delta_{name}")[step - 1],
            "+-": measured.scores.error_at(f"delta_{name}", step),
        }
        for name, title in definitions.items()
    ]


def _other_rows(measured: Measured) -> list[dict[str, Any]]:
    figures, rows = measured.figures(), []
    for event, found in measured.events.items():
        for score in ("precision", "recall"):
            value = figures.get(f"{event}_{score}", "no event")
            rows.append({"measure": f"{event} {score}, {found.num_real} events", "dream": value})
    titles = {
        "calibration_spearman": "calibration: rank correlation of uncertainty and error",
        "stability_contrast": "contrast of the last frames of long dreams (1: as in real frames)",
        "stability_motion": "motion in the last frames of long dreams (1: as in real play)",
        "stability_flat": "share of flat frames in long dreams",
        "stability_frozen": "share of frozen frames in long dreams",
        "survival_real": "survival: share of real frames that are pictures of the game",
        "player_survival_real": "player whole and in its place: share of real frames",
    }
    for begin, mark in pairwise((0, *MARKS)):
        part = f"frames {begin + 1} to {mark} of long dreams"
        titles[f"survival_{mark}"] = f"survival: share of {part} that are pictures of the game"
        titles[f"player_survival_{mark}"] = f"player whole and in its place: share of {part}"
    for name in figures:
        if name.startswith("stability_delta"):
            unit = "pixels" if "pixels" in name else "dB"
            when = "at its start" if name.endswith("start") else "late in it"
            titles[name] = f"obedience of a long dream, {when} ({unit})"
    titles["frames_per_second"] = "dreamed frames per second"
    rows += [{"measure": t, "dream": figures[n]} for n, t in titles.items() if n in figures]
    return rows
