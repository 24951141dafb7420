"""The labels that describe a game: their possible values, what these mean, and the evidence.

The conventions follow the public annotation, that is, the game labels published with the paper.
docs/retroact.md names the paper, and has the rules and examples.
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
    "side": "seen from the side or front: the ground is a line, or the screen a wall",
    "top": "seen straight from above",
    "3p": "at an angle: the ground is a plane that runs into the picture, also from behind",
    "1p": "through the character's eyes",
    "multi": "changes between views within the first stage",
}

MOTIONS: dict[str, str] = {
    "free": "the character moves along both axes; running and jumping counts as both",
    "h": "only left and right; also a craft before a screen that scrolls upwards or inwards",
    "v": "only up and down; also a craft before a screen that scrolls sideways",
    "fixed": "the character stays in place; the player aims or operates something",
    "tube": "around a tube or circle",
}

GENRES: dict[str, str] = {
    "pl": "platformer: runs, flaps and jumps between platforms under gravity, armed or not",
    "pl_fly": "side view, but the character flies or swims without platforms",
    "space_shooter": "a craft that shoots, scrolling or fixed; galleries too",
    "fight": "one-on-one fighting, wrestling, boxing, and brawlers along a street",
    "shooter": "shooting on foot, from a land vehicle or at targets, without platforms",
    "action": "adventures and other action that fits no other genre",
    "sport": "ball games and other sports",
    "other": "boards, cards, puzzles without action, and what fits nowhere else",
    "maze": "corridors between walls, to run or dig through",
    "race": "driving against others or the clock",
    "grid": "moves over a field of cells or from cell to cell",
    "pong": "a paddle and a ball",
    "sim": "simulates a vehicle or a life",
    "pinball": "pinball",
    "tetris": "falling blocks and matching stones",
}

CONTROLS: tuple[str, ...] = ("right", "left", "up", "down", "jump", "secondary")

WORDS: dict[str, str] = {
    "right": "moves or faces right",
    "left": "moves or faces left",
    "up": "moves up (without ladders or gravity)",
    "down": "moves down (without ladders or gravity)",
    "climb": "climbs ladders, ropes or stairs",
    "crouch": "ducks, rolls or lies down",
    "enter": "enters doors or pipes",
    "look": "looks or aims that way without moving",
    "jump": "jumps",
    "run": "runs faster or dashes",
    "shoot": "fires or throws something: bullets, knives, fire",
    "strike": "hits with a weapon, a leg or a tail",
    "punch": "hits with the fist",
    "none": "does nothing",
    "other": "does something else: turns, brakes, flies, uses a carried item",
}

EVIDENCE: dict[str, str] = {
    "measured": "measured in the emulator; benchmarks/results/probe has the numbers",
    "known": "from knowledge of the game, certain",
    "public": "as in the public annotation; from knowledge of the game alone it is uncertain",
    "unsure": "from knowledge of the game, a best guess",
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
    """The labels of a game; an empty string means that a label is missing.

    Attributes:
        view: Camera view, a key of `VIEWS`.
        motion: Axes along which the character moves, a key of `MOTIONS`.
        genre: Genre, a key of `GENRES`.
        right: What RIGHT does, a key of `WORDS`; the same holds for the other five controls.
            Platformers have all six control labels; other games have only the control labels that
            were measured.
        left: What LEFT does.
        up: What UP does.
        down: What DOWN does.
        jump: What the platform's usual jump button does.
        secondary: What the platform's usual second button does.
        evidence: Evidence for view, motion and genre, a key of `EVIDENCE`.
        controls_evidence: Evidence for the six controls; ``measured`` if all were measured.
        measured: Names of the controls whose labels a probe confirms, separated by spaces.
        second_opinion: Another defensible view, motion and genre, in the format of `tags`. It is
            set if the public annotation was adopted although we are sure of our own labels.
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
    second_opinion: str = ""

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Labels:
        """Reads the labels from a row of the table."""
        return cls(**{name: row.get(name) or "" for name in LABEL_COLUMNS})

    @property
    def controls(self) -> dict[str, str]:
        """The control labels that are set, as a dict from control to label value."""
        pairs = {name: getattr(self, name) for name in CONTROLS}
        return {name: word for name, word in pairs.items() if word}

    def evidence_of(self, control: str) -> str:
        """Returns the evidence for a control's label, a key of `EVIDENCE`; empty if unlabelled."""
        return "measured" if control in self.measured.split() else self.controls_evidence

    @property
    def tags(self) -> str:
        """View, motion and genre in the format of the public annotation."""
        return f"{self.view} {self.motion} {self.genre}".strip()

    @property
    def consistent_controls(self) -> bool:
        """Whether the controls pass the paper's filter for games with consistent actions."""
        return (
            (self.right, self.left, self.jump) == ("right", "left", "jump")
            and self.up in ("climb", "none")
            and self.down in ("crouch", "climb", "none")
        )

    def problems(self) -> list[str]:
        """Lists missing labels and invalid label values."""
        found = [
            f"{name}={getattr(self, name)!r}"
            for name, words in _VOCABULARIES.items()
            if getattr(self, name) and getattr(self, name) not in words
        ]
        wanted = ["view", "motion", "genre", "evidence"]
        if self.genre == "pl" or self.controls:
            wanted += [*CONTROLS, "controls_evidence"]
        found += [f"measured={name!r}" for name in self.measured.split() if name not in CONTROLS]
        found += _problems_of_opinion(self.second_opinion, self.tags)
        return found + [f"no {name}" for name in wanted if not getattr(self, name)]


def _problems_of_opinion(opinion: str, tags: str) -> list[str]:
    if not opinion:
        return []
    words = opinion.split()
    valid = len(words) == 3 and all(
        word in _VOCABULARIES[name]
        for name, word in zip(("view", "motion", "genre"), words, strict=True)
    )
    return [] if valid and opinion != tags else [f"second_opinion={opinion!r}"]


LABEL_COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Labels))


def check_word(label: str, word: str) -> str:
    """Returns a label value as the table spells it; resolves aliases and checks the value.

    Raises:
        ValueError: If the label cannot have this value; the message lists the possible values.
    """
    word = _ALIASES.get(word, word)
    if word not in _VOCABULARIES[label]:
        raise ValueError(f"{label} must be one of {', '.join(_VOCABULARIES[label])}, got {word!r}")
    return word
