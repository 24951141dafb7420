"""The real CoinRun, through procgen."""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from genie_gym import actions as action_sets
from genie_gym.envs.coinrun_state import drawn_cheaply, drawn_like, harmless, without_clock
from genie_gym.envs.procgen_rows import ProcgenRows
from genie_gym.envs.single import FrameEnv
from genie_gym.envs.vector import FrameVectorEnv, Rows, RowsOutcome

__all__ = ["TIME_LIMIT", "CoinRunEnv", "CoinRunVectorEnv", "paint_over_velocity_map"]

TIME_LIMIT = 1000
"""Steps after which CoinRun itself gives an episode up."""

_DISTRIBUTION_MODES = ("easy", "hard")
_MAX_SEED = 2**31 - 1
_VELOCITY_MAP_HEIGHT, _VELOCITY_MAP_WIDTH = 13, 26
_SNAPSHOT_EVERY = 100  # steps: about as dear as the steps taken again at an episode's end
_FEW = 8  # rows that do not pay for waking threads
_MIN_THREADS = 4  # faster than 2 even on 2 processors
_MANY = 4  # rows from which a window shows the frames instead of large pictures
_SAVED = struct.Struct("<?I")  # whether procgen has begun the next level, length of its state


def paint_over_velocity_map(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paints the corner black where procgen draws the velocity map.

    Args:
        frames: Frames (..., 64, 64, 3), with or without a velocity map.

    Returns:
        A painted copy.
    """
    if frames.shape[-3:] != (64, 64, 3):
        raise ValueError(f"expected frames of shape (..., 64, 64, 3), got {frames.shape}")
    painted = frames.copy()
    _blacken(painted)
    return painted


class CoinRunVectorEnv(FrameVectorEnv):
    """Rows of CoinRun, each decided by its own seed and actions alone.

    An episode is *terminated* by the coin (reward 10), a saw, an enemy or lava, on whatever step
    that happens, and *truncated* by the time limit. The last frame of an episode is the true one,
    which procgen itself never shows, and levels follow each other as they do in procgen.

    Infos: ``level_seed``, the level of the step, and ``level_complete``, whether the step took
    its coin.

    Args:
        num_envs: Number of rows.
        num_levels: How many different levels there are; 0 for all.
        start_level: Seed of the first of these levels.
        distribution_mode: "hard", or "easy" with fewer enemies and one look for all levels.
        use_backgrounds: Whether to draw the background, else it is black.
        restrict_themes: Whether all levels take the same theme of ground, players and enemies.
        velocity_map: Whether procgen draws the agent's velocity as two gray squares.
        paint_over: Whether the place of these squares is painted black in all frames.
        action_set: Name of the action set.
        autoreset_mode: When a row whose episode ended begins the next one.
        max_episode_steps: Steps after which a row is truncated; None for procgen's own 1000.
        render_mode: "rgb_array" and "human" give pictures of 512x512.
        num_threads: Threads of procgen that share the rows, 0 for the calling one; by default
            as many as are fastest.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_levels: int = 0,
        start_level: int = 0,
        distribution_mode: str = "hard",
        use_backgrounds: bool = True,
        restrict_themes: bool = False,
        velocity_map: bool = False,
        paint_over: bool = False,
        action_set: str = "coinrun-7",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        num_threads: int | None = None,
    ):
        _check_levels(num_levels, start_level, distribution_mode)
        self._options: dict[str, Any] = {
            "distribution_mode": distribution_mode,
            "num_levels": int(num_levels),
            "start_level": int(start_level),
            "use_backgrounds": bool(use_backgrounds),
            "restrict_themes": bool(restrict_themes),
            "paint_vel_info": bool(velocity_map),
        }
        self._paint_over = bool(paint_over)
        actions = action_sets.action_set(action_set)
        self._moves = np.array(action_sets.procgen_actions(actions), np.int32)
        shown = {**self._options, "paint_over": self._paint_over}
        super().__init__(
            num_envs,
            actions=actions,
            kind=f"Procgen/CoinRun({', '.join(f'{k}={v!r}' for k, v in shown.items())})",
            autoreset_mode=autoreset_mode,
            max_episode_steps=TIME_LIMIT if max_episode_steps is None else max_episode_steps,
            render_mode=render_mode,
        )
        self._rows = ProcgenRows(
            self.num_envs, num_threads=_threads(num_threads, self.num_envs), **self._options
        )
        self.frames = self._rows.frames
        self._scratch = ProcgenRows(1, **self._options)
        self._painter: ProcgenRows | None = None
        # The level that each row goes on to, where procgen has begun it already.
        self._next_levels: list[bytes | None] = [None] * self.num_envs
        # A state of each row from which to take the last steps again, and the moves since.
        self._snapshots = [b""] * self.num_envs
        self._moves_since = np.zeros((self.num_envs, _SNAPSHOT_EVERY), np.int32)
        self._num_since = np.zeros(self.num_envs, np.intp)

    # What the base asks for ----------------------------------------------------------------

    def _rows_reseeded(self, rows: Rows) -> None:
        for row in rows:
            seed = int(self.np_random[row].integers(_MAX_SEED))
            seeded = ProcgenRows(1, rand_seed=seed, **self._options)
            self._next_levels[row] = seeded.save(0)
            seeded.close()

    def _begin_rows(self, rows: Rows, options: dict[str, Any]) -> dict[str, NDArray[Any]]:
        for row in rows:
            level = self._next_levels[row] or self._following_level(row)
            self._next_levels[row] = None
            self._rows.load(row, without_clock(level))
            self._take_snapshot(row, level)
        self._paint()
        return {
            "level_seed": self._rows.level_seed[rows].astype(np.int64),
            "level_complete": np.zeros(len(rows), np.bool_),
        }

    def _step_rows(self, rows: Rows, actions: NDArray[np.int64]) -> RowsOutcome:
        # Rows that are not asked for step along; their episodes are over and begin anew next.
        moves = np.full(self.num_envs, self._moves[0])
        moves[rows] = self._moves[actions]
        self._rows.act(moves)
        self._moves_since[rows, self._num_since[rows]] = moves[rows]
        self._num_since[rows] += 1

        # Not only rows asked for: one that is out of time may meet its end on the step along.
        for row in np.flatnonzero(self._rows.ended):
            if self._next_levels[row] is None:
                self._next_levels[row] = self._rows.save(row)
        terminated = self._rows.ended[rows]
        for row in rows[terminated]:
            self._take_last_steps_again(row)
            self.frames[row] = self._scratch.frames[0]
        for row in rows[~terminated & (self._num_since[rows] == _SNAPSHOT_EVERY)]:
            self._take_snapshot(row, self._rows.save(row))
        self._paint()
        return RowsOutcome(
            rewards=self._rows.rewards[rows],
            terminated=terminated,
            truncated=np.zeros(len(rows), np.bool_),
            infos={
                "level_seed": self._rows.stepped_level_seed[rows].astype(np.int64),
                "level_complete": self._rows.level_complete[rows].astype(np.bool_),
            },
        )

    def _save_row(self, row: int) -> bytes:
        level = self._next_levels[row]
        if level is None:
            game = self._rows.save(row)
            return _SAVED.pack(False, len(game)) + game
        return _SAVED.pack(True, len(level)) + level + self._shown(row)

    def _load_row(self, row: int, state: bytes) -> None:
        next_begun, size = _SAVED.unpack_from(state)
        game, shown = state[_SAVED.size :][:size], state[_SAVED.size :][size:]
        self._rows.load(row, game)
        self._next_levels[row] = game if next_begun else None
        self._take_snapshot(row, shown if next_begun else game)

    def _render_row(self, row: int) -> NDArray[np.uint8]:
        if self.render_mode == "human" and self.num_envs > _MANY:
            return self.frames[row]
        if self._painter is None:
            self._painter = ProcgenRows(1, pictures=True, **self._options)
        return self._painter.picture(self._shown(row))

    def close_extras(self, **kwargs: Any) -> None:
        """Frees the games."""
        super().close_extras(**kwargs)
        for games in (self._rows, self._scratch, self._painter):
            if games is not None:
                games.close()

    # Parts of the above --------------------------------------------------------------------

    def _following_level(self, row: int) -> bytes:
        """The level after the one that a row is in the middle of."""
        self._scratch.load(0, self._rows.save(row))
        self._scratch.restart()
        return self._scratch.save(0)

    def _take_snapshot(self, row: int, state: bytes) -> None:
        self._snapshots[row] = state
        self._num_since[row] = 0

    def _take_last_steps_again(self, row: int) -> None:
        """Brings the scratch game, in which nothing ends, to where a row's episode ended."""
        snapshot = self._snapshots[row]
        self._scratch.load(0, drawn_cheaply(harmless(snapshot)))
        for move in self._moves_since[row, : self._num_since[row]]:
            self._scratch.act(move[None])
        self._scratch.load(0, drawn_like(self._scratch.save(0), snapshot))

    def _shown(self, row: int) -> bytes:
        """The game that a row shows, also if procgen itself is in the next level already."""
        if self._next_levels[row] is None:
            return self._rows.save(row)
        self._take_last_steps_again(row)
        return self._scratch.save(0)

    def _paint(self) -> None:
        if self._paint_over:
            _blacken(self.frames)


class CoinRunEnv(FrameEnv):
    """CoinRun as a plain env: one row of `CoinRunVectorEnv`, with the same options."""

    def __init__(self, **options: Any):
        super().__init__(
            CoinRunVectorEnv(1, autoreset_mode=AutoresetMode.DISABLED, num_threads=0, **options)
        )


def _blacken(frames: NDArray[np.uint8]) -> None:
    frames[..., :_VELOCITY_MAP_HEIGHT, :_VELOCITY_MAP_WIDTH, :] = 0


def _check_levels(num_levels: int, start_level: int, distribution_mode: str) -> None:
    if distribution_mode not in _DISTRIBUTION_MODES:
        raise ValueError(
            f"CoinRun has distribution_mode {' and '.join(map(repr, _DISTRIBUTION_MODES))}, "
            f"got {distribution_mode!r}"
        )
    if num_levels < 0 or start_level < 0 or num_levels + start_level > _MAX_SEED:
        raise ValueError(
            f"num_levels and start_level must be from 0 to {_MAX_SEED} together, "
            f"got num_levels={num_levels}, start_level={start_level}"
        )
    if start_level and not num_levels:
        raise ValueError(
            f"start_level={start_level} needs the number of levels from there on: give num_levels="
        )


def _threads(asked: int | None, num_envs: int) -> int:
    if asked is None:
        return 0 if num_envs < _FEW else max(_MIN_THREADS, os.cpu_count() or 1)
    if asked < 0:
        raise ValueError(f"num_threads must be at least 0, got {asked}")
    return asked
