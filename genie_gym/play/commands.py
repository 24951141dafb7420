"""The commands that the web page can send to the server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_MESSAGE", "SPEEDS", "WAIT", "Command", "read_command"]

MAX_MESSAGE = 1024
"""Maximum size of a message, in bytes."""
SPEEDS = (1, 60)
"""Minimum and maximum speed, in frames per second."""
WAIT = -1
"""The action that waits: the game stands still until a key is pressed."""

_MAX = 2**31 - 1
# For each command: the type of the value, and the limits of a number or of a text's length.
_VALUES: dict[str, tuple[type, int, int]] = {
    "act": (int, WAIT, 255),
    "got": (int, 0, _MAX),
    "pause": (bool, 0, 1),
    "speed": (int, *SPEEDS),
    "reset": (int, 0, _MAX),
    "world": (str, 1, 200),
    "real": (bool, 0, 1),
    "rewind": (int, 0, _MAX),
    "keep": (int, 0, 1),
    "driver": (str, 0, 500),
    "record": (bool, 0, 1),
}
_EXPECTED = {
    int: "an integer from {low} to {high}",
    bool: "true or false",
    str: "a text of {low} to {high} characters",
}
_BARE = ("step", "branch", "dream_on")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command from the web page.

    Attributes:
        do: Name of the command.
        value: Value of the command; None for commands that have no value.
        key: Number that the page gave to the key press. Each frame is sent with the number of the
            newest key press before that frame.
    """

    do: str
    value: Any = None
    key: int = 0


def read_command(text: str) -> Command:
    """Read a message from the web page.

    Raises:
        ValueError: If the message is not a valid command.
    """
    try:
        given = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("a message must be JSON") from None
    if not isinstance(given, dict) or given.keys() - {"do", "value", "key"}:
        raise ValueError("a message may only have the entries do, value and key")
    do, key = given.get("do"), given.get("key", 0)
    value: Any = given.get("value")
    if type(key) is not int or not 0 <= key <= _MAX:
        raise ValueError("key must be a number")
    if do in _BARE and value is None:
        return Command(do=do, key=key)
    if not isinstance(do, str) or do not in _VALUES:
        raise ValueError("there is no such command")
    kind, low, high = _VALUES[do]
    size = len(value) if isinstance(value, str) else value
    if type(value) is not kind or not low <= int(size) <= high:
        expected = _EXPECTED[kind].format(low=low, high=high)
        raise ValueError(f"the value of {do} must be {expected}")
    return Command(do=do, value=value, key=key)
