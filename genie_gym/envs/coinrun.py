"""The real CoinRun, run by procgen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from genie_gym import actions as action_sets
from genie_gym.envs.arguments import named_arguments
from genie_gym.envs.coinrun_rows import CoinRunRows
from genie_gym.envs.coinrun_state import agent_position
from genie_gym.envs.procgen_rows import ProcgenRows
from genie_gym.envs.rows import Rows, RowsOutcome
from genie_gym.envs.single import FrameEnv
from genie_gym.envs.vector import FrameVectorEnv

__all__ = ["TIME_LIMIT", "CoinRunEnv", "CoinRunVectorEnv", "paint_over_velocity_map"]

TIME_LIMIT = 1000
"""Number of steps after which CoinRun itself ends an episode."""

_DISTRIBUTION_MODES = ("easy", "hard")
_MAX_SEED = 2**31 - 1
_VELOCITY_MAP_HEIGHT, _VELOCITY_MAP_WIDTH = 13, 26
_MIN_BLOCK = 8  # rows per task; with fewer, threading costs more than it saves
_BLOCKS_PER_THREAD = 2  # balances the load when one thread is slow
_MANY = 4  # with more rows than this, a window shows frames instead of large images


def paint_over_velocity_map(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a copy of the frames in which the corner of procgen's velocity map is black.

    Args:
        frames: uint8 ``(..., 64, 64, 3)``, with or without a velocity map.
    """
    if frames.shape[-3:] != (64, 64, 3):
        raise ValueError(f"expected frames of shape (..., 64, 64, 3), got {frames.shape}")
    painted = frames.copy()
    _blacken(painted)
    return painted


@named_arguments
class CoinRunVectorEnv(FrameVectorEnv):
    """A vector env for CoinRun. Each row (sub-env) depends only on its own seed and actions.

    An episode is *terminated* by the coin (reward 10), a saw, an enemy or lava, and *truncated* by
    the time limit. The env returns the true last frame of an episode, which procgen never shows.
    Each row plays the same sequence of levels as it would in procgen.

    Infos: ``level_seed`` is the seed of the level in which the step was taken, and
    ``level_complete`` says whether the step reached the coin.

    Args:
        num_envs: Number of sub-envs, called rows.
        num_levels: Number of distinct levels; 0 for no limit.
        start_level: Seed of the first level.
        distribution_mode: "hard" or "easy". Easy levels have fewer enemies and all look alike.
        use_backgrounds: Whether to draw the background; if not, it is black.
        restrict_themes: Whether all levels use the same theme of ground, players and enemies.
        velocity_map: Whether procgen draws the agent's velocity as two grey squares.
        paint_over: Whether to paint the area of the two squares black in all frames.
        action_set: Name of the action set.
        autoreset_mode: When a row starts its next episode after the previous one has ended.
        max_episode_steps: Steps after which a row is truncated; None for procgen's limit of 1000.
        render_mode: None, "rgb_array" or "human"; rendered images have 512x512 pixels.
        num_threads: Number of threads that step the rows; by default, one per CPU core.
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
        switches = {
            "use_backgrounds": use_backgrounds,
            "restrict_themes": restrict_themes,
            "velocity_map": velocity_map,
            "paint_over": paint_over,
        }
        for name, value in switches.items():
            if value not in (True, False):
                raise ValueError(f"{name} must be True or False, got {value!r}")
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
        num_threads = _threads(num_threads)
        self._block = max(_MIN_BLOCK, -(-self.num_envs // (num_threads * _BLOCKS_PER_THREAD)))
        self._blocks = [
            CoinRunRows(min(self._block, self.num_envs - first), **self._options)
            for first in range(0, self.num_envs, self._block)
        ]
        self._num_helpers = min(num_threads, len(self._blocks)) - 1
        self._helpers = ThreadPoolExecutor(max(1, self._num_helpers))
        self._painter: ProcgenRows | None = None

    def agent_positions(self) -> NDArray[np.float32]:
        """Returns the agents' positions ``(num_envs, 2)``, in cells from the left and the bottom.

        The position is undefined for a row whose episode has ended, until the row is reset.
        """
        self._check_open()
        places = [self._place(row) for row in range(self.num_envs)]
        return np.array(
            [agent_position(block.games.save(place)) for block, place in places], np.float32
        )

    # Methods of the base class -------------------------------------------------------------

    def _rows_reseeded(self, rows: Rows) -> None:
        for row in rows:
            block, place = self._place(row)
            block.seed(place, int(self.np_random[row].integers(_MAX_SEED)))

    def _begin_rows(self, rows: Rows, options: dict[str, Any]) -> dict[str, NDArray[Any]]:
        for row in rows:
            block, place = self._place(row)
            block.begin(place)
            self.frames[row] = block.games.frames[place]
        self._paint()
        return {
            "level_seed": self._column("level_seed", rows).astype(np.int64),
            "level_complete": np.zeros(len(rows), np.bool_),
        }

    def _step_rows(self, rows: Rows, actions: NDArray[np.int64]) -> RowsOutcome:
        # The other rows are stepped too, which does no harm: their episodes have ended.
        moves = np.full(self.num_envs, self._moves[0])
        moves[rows] = self._moves[actions]
        live = np.zeros(self.num_envs, np.bool_)
        live[rows] = True
        waiting = iter(list(enumerate(self._blocks)))
        helpers = [
            self._helpers.submit(self._act, waiting, moves, live) for _ in range(self._num_helpers)
        ]
        self._act(waiting, moves, live)
        for helper in helpers:
            helper.result()
        self._paint()
        return RowsOutcome(
            rewards=self._column("rewards", rows),
            terminated=self._column("ended", rows),
            truncated=np.zeros(len(rows), np.bool_),
            infos={
                "level_seed": self._column("stepped_level_seed", rows).astype(np.int64),
                "level_complete": self._column("level_complete", rows).astype(np.bool_),
            },
        )

    def _save_row(self, row: int) -> bytes:
        block, place = self._place(row)
        return block.save(place)

    def _load_rows(self, rows: Rows, state: bytes) -> None:
        for row in rows:
            block, place = self._place(row)
            block.load(place, state)

    def _render_row(self, row: int) -> NDArray[np.uint8]:
        if self.render_mode == "human" and self.num_envs > _MANY:
            return self.frames[row]
        if self._painter is None:
            self._painter = ProcgenRows(1, pictures=True, **self._options)
        block, place = self._place(row)
        return self._painter.picture(block.shown(place))

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the threads and frees the games."""
        super().close_extras(**kwargs)
        self._helpers.shutdown()
        for games in (*self._blocks, self._painter):
            if games is not None:
                games.close()

    # Helpers -------------------------------------------------------------------------------

    def _act(
        self,
        waiting: Iterator[tuple[int, CoinRunRows]],
        moves: NDArray[np.int32],
        live: NDArray[np.bool_],
    ) -> None:
        """Steps blocks of rows; each thread takes the next block that is not stepped yet."""
        for index, block in waiting:
            mine = slice(index * self._block, (index + 1) * self._block)
            block.act(moves[mine], live[mine])
            self.frames[mine] = block.games.frames

    def _place(self, row: int) -> tuple[CoinRunRows, int]:
        """Returns the block that contains a row, and the row's index in the block."""
        index, place = divmod(int(row), self._block)
        return self._blocks[index], place

    def _column(self, field: str, rows: Rows) -> NDArray[Any]:
        """Returns a field of procgen's games for some rows."""
        return np.concatenate([getattr(block.games, field) for block in self._blocks])[rows]

    def _paint(self) -> None:
        if self._paint_over:
            _blacken(self.frames)


class CoinRunEnv(FrameEnv):
    """A single env for CoinRun.

    It takes the arguments of `CoinRunVectorEnv`, except `num_envs` and `autoreset_mode`.
    """

    def __init__(self, **options: Any):
        super().__init__(CoinRunVectorEnv(1, autoreset_mode=AutoresetMode.DISABLED, **options))


def _blacken(frames: NDArray[np.uint8]) -> None:
    frames[..., :_VELOCITY_MAP_HEIGHT, :_VELOCITY_MAP_WIDTH, :] = 0


def _check_levels(num_levels: int, start_level: int, distribution_mode: str) -> None:
    if distribution_mode not in _DISTRIBUTION_MODES:
        raise ValueError(
            f"distribution_mode must be {' or '.join(map(repr, _DISTRIBUTION_MODES))}, "
            f"got {distribution_mode!r}"
        )
    if num_levels < 0 or start_level < 0 or num_levels + start_level > _MAX_SEED:
        raise ValueError(
            f"num_levels and start_level must not be negative and add up to at most {_MAX_SEED}, "
            f"got num_levels={num_levels}, start_level={start_level}"
        )
    if start_level and not num_levels:
        raise ValueError(
            f"start_level needs num_levels, got start_level={start_level} without it: add "
            "num_levels=N for the levels start_level to start_level + N - 1"
        )


def _threads(num_threads: int | None) -> int:
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"num_threads must be at least 1, got {num_threads}")
    return num_threads or os.cpu_count() or 1
