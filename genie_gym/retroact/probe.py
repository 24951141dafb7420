"""Measures what a game's buttons do by combining each action's effects over many states."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genie_gym.pictures import labelled, side_by_side, write_png
from genie_gym.retroact.catalogue import Game
from genie_gym.retroact.labels import CONTROLS
from genie_gym.retroact.probe_measure import Effect, measure
from genie_gym.retroact.probe_play import ACTIONS, Branches, ProbeConfig, play_branches

__all__ = ["CONFIRMS", "ProbeConfig", "ProbeResult", "probe", "summarise"]

# Maps a measured value to the label values that it confirms. A measured value can confirm several
# label values, because a probe cannot distinguish, for example, a fist from a sword.
CONFIRMS: dict[str, frozenset[str]] = {
    "right": frozenset({"right"}),
    "left": frozenset({"left"}),
    "up": frozenset({"up", "climb"}),
    "down": frozenset({"down", "climb"}),
    "jump": frozenset({"jump"}),
    "crouch": frozenset({"crouch"}),
    "sends": frozenset({"shoot"}),
    "in_place": frozenset({"strike", "punch", "look", "other"}),
    "none": frozenset({"none"}),
    "unclear": frozenset(),
}

_ACTS = 0.25  # minimum fraction of states in which an action must have an effect, else "none"
_AGREES = 0.6  # minimum fraction of those states that must agree on one value, else "unclear"
_SHOWN = 4  # frames per action in the strip


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """Results of probing a game.

    Attributes:
        game: Name of the game.
        words: For each control, the measured value that most states agree on, a key of `CONFIRMS`.
        shares: For each control, the fraction of states that agree on the measured value, among the
            states in which the control had an effect. For the value ``none``, the fraction of
            responsive states in which the control had no effect.
        num_states: Number of states tried.
        num_responsive: Number of responsive states, in which any action had an effect. All other
            states are ignored.
        effects: For each control, its effect in each responsive state.
        config: Settings of the probe.
        strip: Frames over time for each action, from the state with the most effects.
    """

    game: str
    words: dict[str, str]
    shares: dict[str, float]
    num_states: int
    num_responsive: int
    effects: dict[str, list[Effect]]
    config: ProbeConfig
    strip: NDArray[np.uint8]

    def facts(self) -> dict[str, Any]:
        """Returns the result as JSON types, with effects summarised by medians and value counts."""
        return {
            "game": self.game,
            "command": f"genie-gym games probe {self.game}",
            "num_states": self.num_states,
            "num_responsive": self.num_responsive,
            "controls": {
                name: {"word": self.words[name], "share": self.shares[name]}
                | _numbers(self.effects[name])
                for name in CONTROLS
            },
            "config": asdict(self.config),
        }

    def write(self, folder: Path, pictures: Path) -> Path:
        """Writes GAME.json and GAME.png; returns the path of the JSON file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.game}.json"
        path.write_text(json.dumps(self.facts(), indent=1) + "\n", encoding="utf-8")
        write_png(pictures / f"{self.game}.png", self.strip)
        return path


def probe(game: Game, config: ProbeConfig) -> ProbeResult:
    """Plays and measures a game; its ROM must be on this machine."""
    return summarise(game, play_branches(game.name, config), config)


def summarise(game: Game, states: Iterable[Branches], config: ProbeConfig) -> ProbeResult:
    """Combines the effects of the actions over all states."""
    measured: list[dict[str, Effect]] = []
    best, strip = -1, np.zeros((1, 1, 3), np.uint8)
    for branches in states:
        effects = measure(branches)
        acting = sum(effect.word != "none" for effect in effects.values())
        if acting > best:
            best, strip = acting, _strip(branches)
        measured.append(effects)
    responsive = [each for each in measured if any(e.word != "none" for e in each.values())]
    by_control = {name: [each[name.upper()] for each in responsive] for name in CONTROLS}
    gravity = game.labels.view == "side"
    decided = {name: _decide(effects, gravity) for name, effects in by_control.items()}
    return ProbeResult(
        game=game.name,
        words={name: word for name, (word, _) in decided.items()},
        shares={name: share for name, (_, share) in decided.items()},
        num_states=len(measured),
        num_responsive=len(responsive),
        effects=by_control,
        config=config,
        strip=strip,
    )


def _decide(effects: list[Effect], gravity: bool) -> tuple[str, float]:
    words = [effect.word for effect in effects]
    if not gravity:  # without gravity, moving up and down again is not a jump
        words = ["up" if word == "jump" else word for word in words]
    acting = Counter(word for word in words if word != "none")
    if acting.total() < _ACTS * len(effects) or not acting:
        return "none", round(1 - acting.total() / max(1, len(effects)), 2)
    word, count = acting.most_common(1)[0]
    share = count / acting.total()
    return word if share >= _AGREES else "unclear", round(share, 2)


def _numbers(effects: list[Effect]) -> dict[str, Any]:
    """Returns value counts, and medians over the states in which the action had an effect."""
    acting = [effect for effect in effects if effect.word != "none"]
    medians = {
        name: round(float(np.median([getattr(effect, name) for effect in acting])), 5)
        for name in ("dx", "dy", "rise", "changed", "memory")
        if acting
    }
    return {"words": dict(Counter(effect.word for effect in effects).most_common()), **medians}


def _strip(branches: Branches) -> NDArray[np.uint8]:
    times = np.linspace(0, branches.screens.shape[1] - 1, _SHOWN).astype(int)
    rows = [
        labelled(side_by_side([frames[time] for time in times]), meaning)
        for meaning, frames in zip(ACTIONS.meanings, branches.screens, strict=True)
    ]
    return np.concatenate(rows)
