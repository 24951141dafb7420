r"""Compare the catalogue's labels with RetroAct's public annotation and with probes.

    python -m benchmarks.studies.catalogue --public RetroAct_v0.1.csv \
        --public-controls RetroAct_v0.1_control_GenieRedux-G-50_sublist.csv \
        --json benchmarks/results/catalogue.json

The two files are in the folder data_generation/annotations of GenieRedux's official code. Without
them, only the counts are compared. The command also draws docs/images/retroact/*.png.
"""

from __future__ import annotations

import csv
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.report import Measured, run_benchmark
from genie_gym.pictures import Picture, write_png
from genie_gym.retroact import Labels, games
from genie_gym.retroact.labels import CONTROLS, EVIDENCE
from genie_gym.retroact.measured import confirmed_controls, measured_words
from genie_gym.retroact.public import read_annotation, read_controls
from genie_gym.retroact.selections import selection

PROBES = Path(__file__).parents[1] / "results" / "probe"

# Counts over the 974 rows of the public annotation, as its authors released it.
PUBLIC: dict[str, dict[str, int]] = {
    "view": {"side": 684, "3p": 155, "top": 114, "1p": 19, "multi": 2},
    "motion": {"free": 765, "h": 126, "v": 68, "fixed": 14, "tube": 1},
    "genre": {
        "pl": 483,
        "space_shooter": 185,
        "fight": 112,
        "shooter": 71,
        "action": 32,
        "sport": 17,
        "other": 13,
        "maze": 12,
        "race": 10,
        "grid": 10,
        "pong": 8,
        "sim": 7,
        "pinball": 5,
        "pl_fly": 5,
        "tetris": 4,
    },
    "platform": {
        "Genesis": 334,
        "Nes": 297,
        "Snes": 184,
        "Sms": 89,
        "Atari2600": 40,
        "GameBoy": 29,
        "32x": 1,
        "Arcade": 0,
        "N64": 0,
        "Saturn": 0,
    },
}
# Control labels for the paper's 50 games.
PUBLIC_50: dict[str, dict[str, int]] = {
    "up": {"climb": 35, "none": 15},
    "down": {"crouch": 46, "none": 3, "climb": 1},
    "jump": {"jump": 50},
    "secondary": {"shoot": 37, "none": 5, "strike": 5, "punch": 2, "jump": 1},
}
_OURS, _PUBLIC, _INK, _PAPER = (70, 130, 180), (200, 200, 200), (40, 40, 40), 255
_BAR, _LEFT, _WIDTH = 12, 120, 640


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--pictures", type=Path, default=Path("docs/images/retroact"))
    parser.add_argument(
        "--public", type=Path, help="the public annotation, for a comparison by row"
    )
    parser.add_argument("--public-controls", type=Path, help="public control labels of 50 games")


def measure(given: Namespace) -> Measured:
    """Count and compare the labels; draw the charts."""
    rows: list[dict[str, Any]] = []
    figures: dict[str, float] = {"games": len(games())}
    for label, public in PUBLIC.items():
        ours = _counts(label)
        rows += _beside(label, ours, public)
        figures |= {f"{label}_{word}": ours[word] for word in public}
        write_png(given.pictures / f"{label}.png", bars(list(public), ours, public))
    chosen = selection("platformers-50").games
    for label, public in PUBLIC_50.items():
        rows += _beside(
            f"{label} of the 50", Counter(getattr(g.labels, label) for g in chosen), public
        )
    figures["consistent_of_50"] = sum(game.labels.consistent_controls for game in chosen)
    figures |= {f"evidence_{word}": n for word, n in _counts("evidence").items()}
    figures |= {
        f"controls_{word}": sum(
            game.labels.evidence_of(name) == word
            for game in games()
            for name in game.labels.controls
        )
        for word in EVIDENCE
    }
    figures["second_opinions"] = sum(bool(game.labels.second_opinion) for game in games())
    figures |= {
        f"selection_{name}": len(selection(name).games)
        for name in ("platformers-200", "platformers-50", "platformers-consistent")
    }
    compared, agreement = _agreement()
    if given.public is not None:
        agreement |= _agreement_with_public(given.public)
    if given.public_controls is not None:
        agreement |= _agreement_with_public_controls(given.public_controls)
    return figures | agreement, rows + compared


def bars(words: Sequence[str], ours: Counter[str], public: dict[str, int]) -> Picture:
    """Draw two bars for each label value: our count above, the public annotation's count below."""
    height = len(words) * (2 * _BAR + 10) + 10
    picture = np.full((height, _WIDTH, 3), _PAPER, np.uint8)
    scale = (_WIDTH - _LEFT - 60) / max(*ours.values(), *public.values())
    for place, word in enumerate(words):
        top = 10 + place * (2 * _BAR + 10)
        _write(picture, word, (6, top + _BAR + 4))
        for line, (count, colour) in enumerate(((ours[word], _OURS), (public[word], _PUBLIC))):
            y, end = top + line * _BAR, _LEFT + round(count * scale)
            picture[y : y + _BAR - 1, _LEFT : max(end, _LEFT + 1)] = colour
            _write(picture, str(count), (end + 4, y + _BAR - 2))
    return picture


def _write(picture: Picture, text: str, place: tuple[int, int]) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, _INK, 1, cv2.LINE_AA)


def _counts(label: str) -> Counter[str]:
    if label == "platform":
        return Counter(game.platform for game in games())
    return Counter(getattr(game.labels, label) for game in games())


def _beside(label: str, ours: Counter[str], public: dict[str, int]) -> list[dict[str, Any]]:
    words = [*public, *(word for word in sorted(ours) if word and word not in public)]
    return [
        {"label": label, "word": word, "ours": ours[word], "public": public.get(word, 0)}
        for word in words
    ]


def _agreement() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Count, for each control, the labels that were known before the probe and that it confirms."""
    words = measured_words(PROBES)
    with (PROBES / "known.csv").open(newline="", encoding="utf-8") as file:
        known = {row["game"]: Labels.from_row(row) for row in csv.DictReader(file)}
    agree: Counter[str] = Counter()
    decided: Counter[str] = Counter()
    for game, labels in known.items():
        agree.update(confirmed_controls(labels, words[game]))
        decided.update(name for name in CONTROLS if words[game][name] != "unclear")
    rows = [
        {"label": "probe", "word": name, "ours": f"{agree[name]} of {decided[name]} agree"}
        for name in CONTROLS
    ]
    figures: dict[str, float] = {
        "probe_games": len(words),
        "probe_controls_decided": decided.total(),
        "probe_controls_agree": agree.total(),
        "probe_agreement": round(agree.total() / max(1, decided.total()), 3),
    }
    return rows, figures


def _agreement_with_public(path: Path) -> dict[str, float]:
    """Return, for each label, the fraction of games whose label equals the public annotation's."""
    public, unknown = read_annotation(path)
    both = [(game.labels, public[game.name]) for game in games() if game.name in public]
    figures: dict[str, float] = {"public_rows": len(both), "public_unknown": len(unknown)}
    for name in ("view", "motion", "genre"):
        figures[f"agree_{name}"] = _share(getattr(ours, name) == row[name] for ours, row in both)
    figures["agree_platformer"] = _share(
        (ours.genre == "pl") == (row["genre"] == "pl") for ours, row in both
    )
    platformers = sorted((g for g, row in public.items() if row["genre"] == "pl"), key=str.lower)
    ours_200 = {game.name for game in selection("platformers-200").games}
    figures["platformers_200_shared"] = len(ours_200 & set(platformers[:200]))
    return figures


def _agreement_with_public_controls(path: Path) -> dict[str, float]:
    """Return, for each control, the fraction of games whose label equals the public label."""
    public = read_controls(path)
    both = [(game.labels, public[game.name]) for game in games() if game.name in public]
    figures: dict[str, float] = {
        f"agree_50_{name}": _share(getattr(ours, name) == words[name] for ours, words in both)
        for name in CONTROLS
    }
    _, alike = Counter(tuple(words.values()) for words in public.values()).most_common(1)[0]
    return figures | {"public_50_alike": alike}


def _share(agree: Iterable[bool]) -> float:
    found = list(agree)
    return round(sum(found) / len(found), 3)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    quick = "no effect: counting takes a second"
    return run_benchmark(
        "studies.catalogue", measure, argv, about=__doc__, options=options, quick=quick
    )


if __name__ == "__main__":
    main()
