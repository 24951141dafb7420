"""CoinRun games that know how an episode looked at its end, stepped in one thread."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genie_gym.envs.coinrun_state import drawn_cheaply, drawn_like, harmless, without_clock
from genie_gym.envs.procgen_rows import ProcgenRows

__all__ = ["CoinRunRows"]

_SNAPSHOT_EVERY = 100  # steps: saving costs about as much as the steps taken again at an end
_SAVED = struct.Struct("<?I")  # whether procgen has begun the next level, length of its state


class CoinRunRows:
    """Rows of procgen, with the frame that ends an episode.

    At an episode's end procgen shows the first frame of the next level. Here the row shows the
    frame that the last step led to, until `begin`: the steps since the row's last snapshot are
    taken once more by a scratch game that nothing ends.

    Attributes:
        games: What the last step gave, by row; its frames are those of the ended episodes.

    Args:
        num: Number of rows.
        options: Options of ``procgen.ProcgenGym3Env``.
    """

    def __init__(self, num: int, **options: Any):
        self.games = ProcgenRows(num, **options)
        self._scratch = ProcgenRows(1, **options)
        self._options = options
        # The level that each row goes on to, where procgen has begun it already.
        self._next_levels: list[bytes | None] = [None] * num
        self._snapshots = [b""] * num
        self._snapshot_times = np.zeros(num, np.int64)
        self._time = 0
        self._last_moves = np.zeros((_SNAPSHOT_EVERY, num), np.int32)  # a ring, by time

    def seed(self, row: int, rand_seed: int) -> None:
        """Decides the level that the row begins next, and those after it."""
        seeded = ProcgenRows(1, rand_seed=rand_seed, **self._options)
        self._next_levels[row] = seeded.save(0)
        seeded.close()

    def begin(self, row: int) -> None:
        """Puts the row at the start of its next level; the other rows stay as they are."""
        level = self._next_levels[row] or self._following_level(row)
        self._next_levels[row] = None
        self.games.load(row, without_clock(level))
        self._take_snapshot(row, level)

    def act(self, moves: NDArray[np.int32], live: NDArray[np.bool_]) -> None:
        """Steps all rows.

        Args:
            moves: Procgen's own action indices.
            live: The rows that are meant. The others step along and must `begin` before they are
                stepped again.
        """
        self.games.act(moves)
        self._last_moves[self._time % _SNAPSHOT_EVERY] = moves
        self._time += 1
        ended = self.games.ended
        if ended.any():
            self._keep_ends(live)
        due = self._time - self._snapshot_times == _SNAPSHOT_EVERY
        if due.any():
            for row in np.flatnonzero(due & live & ~ended):
                self._take_snapshot(row, self.games.save(row))

    def shown(self, row: int) -> bytes:
        """The game that a row shows, which is not procgen's own where an episode has ended."""
        if self._next_levels[row] is None:
            return self.games.save(row)
        self._take_last_steps_again(row)
        return self._scratch.save(0)

    def save(self, row: int) -> bytes:
        """All that a row's future and picture depend on."""
        level = self._next_levels[row]
        if level is None:
            game = self.games.save(row)
            return _SAVED.pack(False, len(game)) + game
        return _SAVED.pack(True, len(level)) + level + self.shown(row)

    def load(self, row: int, state: bytes) -> None:
        """Puts a row into a state that `save` returned; the other rows stay as they are."""
        next_begun, size = _SAVED.unpack_from(state)
        game, shown = state[_SAVED.size :][:size], state[_SAVED.size :][size:]
        self.games.load(row, game)
        self._next_levels[row] = game if next_begun else None
        self._take_snapshot(row, shown if next_begun else game)

    def close(self) -> None:
        """Frees the games."""
        self.games.close()
        self._scratch.close()

    def _keep_ends(self, live: NDArray[np.bool_]) -> None:
        """Puts the next level aside where procgen has begun one, and shows how the last ended."""
        # Not only for live rows: one that is out of time may meet its end while it steps along.
        for row in np.flatnonzero(self.games.ended):
            if self._next_levels[row] is None:
                self._next_levels[row] = self.games.save(row)
        for row in np.flatnonzero(self.games.ended & live):
            self._take_last_steps_again(row)
            self.games.frames[row] = self._scratch.frames[0]

    def _following_level(self, row: int) -> bytes:
        """The level after the one that a row is in the middle of."""
        self._scratch.load(0, self.games.save(row))
        self._scratch.restart()
        return self._scratch.save(0)

    def _take_snapshot(self, row: int, state: bytes) -> None:
        self._snapshots[row] = state
        self._snapshot_times[row] = self._time

    def _take_last_steps_again(self, row: int) -> None:
        """Brings the scratch game, which nothing ends, to where the row's episode ended."""
        snapshot = self._snapshots[row]
        self._scratch.load(0, drawn_cheaply(harmless(snapshot)))
        for time in range(self._snapshot_times[row], self._time):
            self._scratch.act(self._last_moves[time % _SNAPSHOT_EVERY, row : row + 1])
        self._scratch.load(0, drawn_like(self._scratch.save(0), snapshot))
