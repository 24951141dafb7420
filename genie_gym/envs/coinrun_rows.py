"""CoinRun games that run in one thread and show the last frame of each episode."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genie_gym.envs.coinrun_state import drawn_cheaply, drawn_like, harmless, without_clock
from genie_gym.envs.procgen_rows import ProcgenRows

__all__ = ["CoinRunRows"]

_SNAPSHOT_EVERY = 100  # steps; balances the cost of snapshots against that of replays
_SAVED = struct.Struct("<?I")  # whether the next level has started, length of the game


class CoinRunRows:
    """Several CoinRun games, called rows, that show the true last frame of each episode.

    At the end of an episode, procgen shows the first frame of the next level. Here, the row shows
    the true last frame until `begin` is called. To draw this frame, a second game that cannot end,
    the *scratch game*, replays the steps since the row's last *snapshot*, a saved state.

    Attributes:
        games: The games after the last step; `games.frames` holds the true last frames of episodes
            that have ended.

    Args:
        num: Number of rows.
        options: Options for ``procgen.ProcgenGym3Env``.
    """

    def __init__(self, num: int, **options: Any):
        self.games = ProcgenRows(num, **options)
        self._scratch = ProcgenRows(1, **options)
        self._options = options
        # The next level of each row, if procgen has already started it; else None.
        self._next_levels: list[bytes | None] = [None] * num
        self._snapshots = [b""] * num
        self._snapshot_times = np.zeros(num, np.int64)
        self._time = 0
        self._last_moves = np.zeros((_SNAPSHOT_EVERY, num), np.int32)  # a ring buffer over time

    def seed(self, row: int, rand_seed: int) -> None:
        """Sets the seed for the row's next level and all levels after it."""
        seeded = ProcgenRows(1, rand_seed=rand_seed, **self._options)
        self._next_levels[row] = seeded.save(0)
        seeded.close()

    def begin(self, row: int) -> None:
        """Starts the row's next level; the other rows do not change."""
        level = self._next_levels[row] or self._following_level(row)
        self._next_levels[row] = None
        self.games.load(row, without_clock(level))
        self._take_snapshot(row, level)

    def act(self, moves: NDArray[np.int32], live: NDArray[np.bool_]) -> None:
        """Steps all rows.

        Args:
            moves: Procgen's own action indices.
            live: Mask of the rows whose results are used. procgen also steps the other rows;
                call `begin` for them before they can be live again.
        """
        self.games.act(moves)
        self._last_moves[self._time % _SNAPSHOT_EVERY] = moves
        self._time += 1
        ended = self.games.ended
        if ended.any():
            self._show_ends(live)
        due = self._time - self._snapshot_times == _SNAPSHOT_EVERY
        if due.any():
            for row in np.flatnonzero(due & live & ~ended):
                self._take_snapshot(row, self.games.save(row))

    def shown(self, row: int) -> bytes:
        """Returns the state of the game that a row shows.

        After the end of an episode, procgen's own game is already in the next level.
        """
        if self._next_levels[row] is None:
            return self.games.save(row)
        self._replay(row)
        return self._scratch.save(0)

    def save(self, row: int) -> bytes:
        """Returns the full state of one row, including what rendering needs, as bytes."""
        level = self._next_levels[row]
        if level is None:
            game = self.games.save(row)
            return _SAVED.pack(False, len(game)) + game
        return _SAVED.pack(True, len(level)) + level + self.shown(row)

    def load(self, row: int, state: bytes) -> None:
        """Restores a row from the result of `save`; the other rows do not change."""
        next_started, size = _SAVED.unpack_from(state)
        game, shown = state[_SAVED.size :][:size], state[_SAVED.size :][size:]
        self.games.load(row, game)
        self._next_levels[row] = game if next_started else None
        self._take_snapshot(row, shown if next_started else game)

    def close(self) -> None:
        """Frees the games."""
        self.games.close()
        self._scratch.close()

    def _show_ends(self, live: NDArray[np.bool_]) -> None:
        """Saves the next level of each row whose episode ended, and shows the true last frame."""
        # Rows that are not live are included: a truncated row may still reach its end when stepped.
        for row in np.flatnonzero(self.games.ended):
            if self._next_levels[row] is None:
                self._next_levels[row] = self.games.save(row)
        for row in np.flatnonzero(self.games.ended & live):
            self._replay(row)
            self.games.frames[row] = self._scratch.frames[0]

    def _following_level(self, row: int) -> bytes:
        """Returns the level after the one that a row is playing."""
        self._scratch.load(0, self.games.save(row))
        self._scratch.restart()
        return self._scratch.save(0)

    def _take_snapshot(self, row: int, state: bytes) -> None:
        self._snapshots[row] = state
        self._snapshot_times[row] = self._time

    def _replay(self, row: int) -> None:
        """Replays the row's steps since its snapshot in the scratch game, which cannot end."""
        snapshot = self._snapshots[row]
        self._scratch.load(0, drawn_cheaply(harmless(snapshot)))
        for time in range(self._snapshot_times[row], self._time):
            self._scratch.act(self._last_moves[time % _SNAPSHOT_EVERY, row : row + 1])
        self._scratch.load(0, drawn_like(self._scratch.save(0), snapshot))
