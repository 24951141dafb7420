"""The history of a dream or a real game, which can be rewound."""

from __future__ import annotations

from typing import Any, Protocol

from genie_gym.play.moment import Moment

__all__ = ["DEPTH", "Line", "Player"]

DEPTH = 100
"""Maximum number of frames by which a line can be rewound."""

_KEY_EVERY = 10  # A state takes megabytes, so every 10th is kept and later steps are replayed.


class Player(Protocol):
    """The interface of `Dream` and `RealGame` that `Line` uses."""

    last: Moment

    def step(self, action: int) -> Moment:
        """Take one action."""

    def save(self) -> Any:
        """Return the state."""

    def load(self, saved: Any) -> None:
        """Go back to a saved state."""

    def close(self) -> None:
        """Free the player's resources."""


class Line:
    """The last steps of a dream or a real game, and the current position among them.

    A line can be rewound to an earlier moment and then continues from that moment.

    Args:
        player: The dream or the real game, in the state in which the line begins.
        start: Number of the first moment.
    """

    def __init__(self, player: Player, start: int = 0):
        self.player = player
        self.first = self.now = start
        self._moments = [player.last]
        self._actions: list[int] = []  # action i leads from moment i to moment i + 1
        self._keys: dict[int, Any] = {start: player.save()}

    @property
    def end(self) -> int:
        """Number of the newest moment."""
        return self.first + len(self._actions)

    @property
    def moment(self) -> Moment:
        """The current moment."""
        return self._moments[self.now - self.first]

    @property
    def earliest(self) -> int:
        """Number of the earliest moment that the line can be rewound to."""
        return max(self.first, self.end - DEPTH)

    @property
    def stopped(self) -> bool:
        """Whether the episode ends at the current moment, so that no further step is possible."""
        return self.now == self.end and self.moment.ended

    def recent(self, num: int) -> tuple[list[Any], list[int]]:
        """Return the last `num` frames (or fewer) up to now, and the actions between them."""
        here = self.now - self.first
        begin = max(0, here - num + 1)
        frames = [moment.frame for moment in self._moments[begin : here + 1]]
        return frames, self._actions[begin:here]

    def seek(self, number: int) -> None:
        """Go to another moment; the later moments are kept."""
        self.now = min(max(number, self.earliest), self.end)

    def needs_step(self) -> bool:
        """Return whether the player must step; if the next moment is known, go there instead."""
        if self.now < self.end:
            self.now += 1
            return False
        return not self.moment.ended

    def add(self, action: int, moment: Moment) -> None:
        """Add the moment that the player has just stepped to."""
        self._actions.append(action)
        self._moments.append(moment)
        self.now += 1
        if self.now % _KEY_EVERY == 0:
            self._keys[self.now] = self.player.save()
            self._forget()

    def cut(self) -> None:
        """Drop everything after the current moment, and bring the player back to that moment."""
        if self.now == self.end:
            return
        here = self.now - self.first
        del self._moments[here + 1 :], self._actions[here:]
        self._keys = {number: key for number, key in self._keys.items() if number <= self.now}
        newest = max(self._keys)
        self.player.load(self._keys[newest])
        for action in self._actions[newest - self.first :]:
            self.player.step(action)

    def follow(self, other: Line, since: int) -> None:
        """Go back to `since`, a moment that both lines share, and repeat the actions of `other`."""
        self.seek(since)
        self.cut()
        for action in other._actions[since - other.first : other.now - other.first]:
            if not self.moment.ended:
                self.add(action, self.player.step(action))

    def mark(self) -> None:
        """Save the player's state as the state of the newest moment."""
        self._keys[self.end] = self.player.save()

    def fork(self, player: Player) -> Line:
        """Return a line for another player, with the same past up to the current moment.

        Args:
            player: Another player of the same type, in any state.
        """
        other = Line(player, self.now)
        here = self.now - self.first
        other.first = self.first
        other._moments = self._moments[: here + 1]
        other._actions = self._actions[:here]
        other._keys = {number: key for number, key in self._keys.items() if number <= self.now}
        newest = max(other._keys)
        player.load(other._keys[newest])
        for action in other._actions[newest - other.first :]:
            player.step(action)
        return other

    def _forget(self) -> None:
        """Drop moments that lie too far back."""
        old = [number for number in self._keys if number <= self.end - DEPTH]
        for number in sorted(old)[:-1]:
            del self._keys[number]
        oldest = min(self._keys)
        del self._moments[: oldest - self.first], self._actions[: oldest - self.first]
        self.first = oldest
