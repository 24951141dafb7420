"""What a game's labels say: the words, what each means, and how sure we are.

The vocabulary's first three parts are the public annotation's; docs/retroact.md has examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

__all__ = [
    "CONTROLS",
    "EVIDENCE",
    "GENRES",
    "LABEL_COLUMNS",
    "MOTIONS",
    "VIEWS",
    "WORDS",
    "Labels",
    "check_word",
]

VIEWS: dict[str, str] = {
    "side": "seen from the side: the ground is a line, or things fall down the screen",
    "top": "seen from above",
    "3p": "from behind the figure, or slanted with depth (isometric, a pitch from the stands)",
    "1p": "through the figure's eyes",
    "multi": "changes between views within the first stage",
}

MOTIONS: dict[str, str] = {
    "free": "the figure moves along both axes; a run with jumps counts as both",
    "h": "only left and right",
    "v": "only up and down",
    "fixed": "the figure stays; the player aims, or works something in place",
    "tube": "around a tube or circle",
}

GENRES: dict[str, str] = {
    "pl": "platformer: runs and jumps under gravity, armed or not",
    "pl_fly": "gravity from the side, but the figure mainly flies",
    "space_shooter": "a craft that shoots: scrolling or fixed, in space, air or water",
    "fight": "one on one, wrestling, boxing, and brawlers along a street",
    "shooter": "shooting on foot, from a vehicle or at targets, without jumping over gaps",
    "action": "adventures and other action that fits nowhere else",
    "sport": "ball games and other sports",
    "other": "boards, cards, quizzes, puzzles without action",
    "maze": "corridors to run or dig through",
    "race": "driving against others or the clock",
    "grid": "moves from cell to cell",
    "pong": "a bat and a ball",
    "sim": "simulates a vehicle or a life",
    "pinball": "pinball",
    "tetris": "falling blocks and matching stones",
}

CONTROLS: tuple[str, ...] = ("right", "left", "up", "down", "jump", "secondary")

WORDS: dict[str, str] = {
    "right": "moves or faces right",
    "left": "moves or faces left",
    "up": "moves up (where no ladder or gravity is involved)",
    "down": "moves down (likewise)",
    "climb": "climbs ladders, ropes or stairs where there are some",
    "crouch": "ducks, rolls or lies down",
    "enter": "enters doors or pipes where there are some",
    "look": "looks or aims that way without moving",
    "jump": "jumps",
    "run": "runs faster or dashes",
    "shoot": "sends something off: bullets, knives, fire, thrown things",
    "strike": "hits with a weapon, a leg or a tail",
    "punch": "hits with the fist",
    "none": "does nothing",
    "other": "does something else: turns, brakes, flies, uses what is carried",
}

EVIDENCE: dict[str, str] = {
    "measured": "probed in the emulator; benchmarks/results/probe has the numbers",
    "known": "from knowledge of the game, and certain",
    "unsure": "from knowledge of the game, the best guess",
}

_ALIASES = {"platformer": "pl", "shmup": "space_shooter", "racing": "race", "sports": "sport"}
_VOCABULARIES: dict[str, dict[str, str]] = {
    "view": VIEWS,
    "motion": MOTIONS,
    "genre": GENRES,
    **dict.fromkeys(CONTROLS, WORDS),
    "evidence": EVIDENCE,
    "controls_evidence": EVIDENCE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """What is said about a game; an empty word says nothing.

    Attributes:
        view: Camera view, of `VIEWS`.
        motion: Axes along which the figure moves, of `MOTIONS`.
        genre: Of `GENRES`.
        right: What RIGHT does, of `WORDS`; likewise the other five. Every platformer has all six,
            other games only where they were measured.
        left: What LEFT does.
        up: What UP does.
        down: What DOWN does.
        jump: What the platform's usual jump button does.
        secondary: What the platform's usual second button does.
        evidence: How sure view, motion and genre are, of `EVIDENCE`.
        controls_evidence: How sure the six are; ``measured`` where all of them were.
        measured: Names of the controls whose labels a probe bears out, with spaces between.
    """

    view: str = ""
    motion: str = ""
    genre: str = ""
    right: str = ""
    left: str = ""
    up: str = ""
    down: str = ""
    jump: str = ""
    secondary: str = ""
    evidence: str = ""
    controls_evidence: str = ""
    measured: str = ""

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Labels:
        """Labels out of a row of the table."""
        return cls(**{name: row.get(name) or "" for name in LABEL_COLUMNS})

    @property
    def controls(self) -> dict[str, str]:
        """The control labels that there are."""
        pairs = {name: getattr(self, name) for name in CONTROLS}
        return {name: word for name, word in pairs.items() if word}

    def evidence_of(self, control: str) -> str:
        """How sure one control's label is, of `EVIDENCE`; empty where there is no label."""
        return "measured" if control in self.measured.split() else self.controls_evidence

    @property
    def tags(self) -> str:
        """View, motion and genre as the public annotation writes them."""
        return f"{self.view} {self.motion} {self.genre}".strip()

    @property
    def consistent_controls(self) -> bool:
        """The paper's filter for games whose buttons do the same things."""
        return (
            (self.right, self.left, self.jump) == ("right", "left", "jump")
            and self.up in ("climb", "none")
            and self.down in ("crouch", "climb", "none")
        )

    def problems(self) -> list[str]:
        """What is missing or not in the vocabulary."""
        found = [
            f"{name}={getattr(self, name)!r}"
            for name, words in _VOCABULARIES.items()
            if getattr(self, name) and getattr(self, name) not in words
        ]
        wanted = ["view", "motion", "genre", "evidence"]
        if self.genre == "pl" or self.controls:
            wanted += [*CONTROLS, "controls_evidence"]
        found += [f"measured={name!r}" for name in self.measured.split() if name not in CONTROLS]
        return found + [f"no {name}" for name in wanted if not getattr(self, name)]


LABEL_COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Labels))


def check_word(label: str, word: str) -> str:
    """A word of a label's vocabulary as the table spells it.

    Raises:
        ValueError: If the label has no such word; the message lists those it has.
    """
    word = _ALIASES.get(word, word)
    if word not in _VOCABULARIES[label]:
        raise ValueError(
            f"{label} is never {word!r}: expected one of {', '.join(_VOCABULARIES[label])}"
        )
    return word
