"""Named action sets: what each action index means, and its buttons on each platform.

A world model and the real game it was learned from share one action set, so the same index does
the same thing in both. The order of the actions is part of the file formats and never changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

__all__ = [
    "ACTION_SETS",
    "ActionSet",
    "action_set",
    "procgen_actions",
    "retro_buttons",
    "retro_platforms",
]


@dataclass(frozen=True, kw_only=True)
class ActionSet:
    """An ordered list of actions with a name.

    Attributes:
        name: The name that commands, datasets and world bundles use.
        meanings: One upper-case word per action index, e.g. ``("NOOP", "RIGHT")``.
    """

    name: str
    meanings: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.meanings or len(set(self.meanings)) != len(self.meanings):
            raise ValueError(
                f"action set {self.name!r} needs at least one action and distinct meanings, got "
                f"{self.meanings}"
            )

    def __len__(self) -> int:
        return len(self.meanings)

    def index(self, meaning: str) -> int:
        """Returns the index of the action with this meaning."""
        if meaning not in self.meanings:
            raise ValueError(
                f"action set {self.name!r} has no action {meaning!r}: expected one of "
                f"{self.meanings}"
            )
        return self.meanings.index(meaning)


_DIRECTIONS = ("RIGHT", "LEFT", "UP", "DOWN", "JUMP")

ACTION_SETS: dict[str, ActionSet] = {
    actions.name: actions
    for actions in (
        # The AutoExplore paper's set. UP serves as the no-op, since it rarely does anything.
        ActionSet(name="retroact-5", meanings=_DIRECTIONS),
        ActionSet(name="retroact-7", meanings=("NOOP", *_DIRECTIONS, "SECONDARY")),
        ActionSet(
            name="coinrun-7",
            meanings=("NOOP", "RIGHT", "LEFT", "JUMP", "JUMP-RIGHT", "JUMP-LEFT", "DOWN"),
        ),
    )
}

# Platform -> (jump button, button for the secondary action), as most games assign them.
_JUMP_AND_SECONDARY: dict[str, tuple[str, str]] = {
    "32x": ("B", "Y"),
    "Arcade": ("A", "B"),
    "Atari2600": ("BUTTON", "BUTTON"),
    "GameBoy": ("A", "B"),
    "GameGear": ("A", "B"),
    "GbAdvance": ("A", "B"),
    "GbColor": ("A", "B"),
    "Genesis": ("C", "B"),
    "N64": ("A", "B"),
    "Nes": ("A", "B"),
    "PCEngine": ("I", "II"),
    "Saturn": ("C", "B"),
    "Sms": ("A", "B"),
    "Snes": ("B", "Y"),
}

# Meaning -> index in Procgen's own list of 15 key combinations.
_PROCGEN: dict[str, int] = {
    "NOOP": 4,
    "RIGHT": 7,
    "LEFT": 1,
    "JUMP": 5,
    "JUMP-RIGHT": 8,
    "JUMP-LEFT": 2,
    "DOWN": 3,
}


def action_set(name: str) -> ActionSet:
    """Returns the action set with this name.

    Raises:
        ValueError: If no action set has this name; the message lists all names.
    """
    if name in ACTION_SETS:
        return ACTION_SETS[name]
    near = get_close_matches(str(name), ACTION_SETS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown action set {name!r}: expected one of {sorted(ACTION_SETS)}.{hint}")


def retro_platforms() -> list[str]:
    """Returns the platforms whose buttons are known, as stable-retro spells them."""
    return list(_JUMP_AND_SECONDARY)


def retro_buttons(actions: ActionSet, platform: str) -> tuple[tuple[str, ...], ...]:
    """Returns the buttons that each action holds down on a platform.

    Args:
        actions: A ``retroact-*`` set.
        platform: A platform as stable-retro spells it, e.g. ``"Nes"``.

    Returns:
        The names of the buttons for each action index; ``NOOP`` has none.
    """
    if platform not in _JUMP_AND_SECONDARY:
        raise ValueError(
            f"expected a platform with known buttons, one of {sorted(_JUMP_AND_SECONDARY)}, got "
            f"{platform!r}"
        )
    jump, secondary = _JUMP_AND_SECONDARY[platform]
    named = {"NOOP": (), "JUMP": (jump,), "SECONDARY": (secondary,)}
    named |= {way: (way,) for way in ("RIGHT", "LEFT", "UP", "DOWN")}
    return tuple(named[meaning] for meaning in _known(actions, named, "RetroAct"))


def procgen_actions(actions: ActionSet) -> tuple[int, ...]:
    """Returns Procgen's own action index for each action of a set."""
    return tuple(_PROCGEN[meaning] for meaning in _known(actions, _PROCGEN, "Procgen"))


def _known(actions: ActionSet, meanings: dict, family: str) -> tuple[str, ...]:
    unknown = [meaning for meaning in actions.meanings if meaning not in meanings]
    if unknown:
        usable = [s.name for s in ACTION_SETS.values() if all(m in meanings for m in s.meanings)]
        raise ValueError(
            f"action set {actions.name!r} contains actions that {family} envs do not support: "
            f"{unknown}. Set action_set to one of {usable}"
        )
    return actions.meanings
