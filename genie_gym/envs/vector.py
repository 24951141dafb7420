"""The base class of all vector envs in this package.

A row is one sub-env. Each subclass wraps a simulator (the real CoinRun, emulator processes or a
world model) and implements how its rows start and step. The base class implements the rest of
Gymnasium's interface: seeds per row, autoreset, time limits, infos, saved states and rendering.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import error, spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from genie_gym.actions import ActionSet
from genie_gym.envs.arguments import (
    check_arguments,
    checked_actions,
    masked_rows,
    seeds_by_row,
)
from genie_gym.envs.rows import Rows, RowsOutcome
from genie_gym.envs.state import RowState
from genie_gym.envs.window import Window, tile

__all__ = ["FrameVectorEnv"]


class FrameVectorEnv(VectorEnv, ABC):
    """The base class of all vector envs in this package.

    A subclass writes the newest frames into ``self.frames`` and implements `_begin_rows`,
    `_step_rows`, `_save_row` and `_load_rows`.

    Args:
        num_envs: Number of sub-envs, called rows.
        actions: The named action set.
        kind: Identifies envs that can load each other's saved states, e.g. ``"Procgen/CoinRun"``.
        frame_size: Height and width of a frame, in pixels.
        fps: Number of steps per second in the real game, for rendering.
        autoreset_mode: When a row starts its next episode after the previous one has ended.
        max_episode_steps: Steps after which a row is truncated; None or -1 for no limit.
        render_mode: None, "rgb_array" or "human".
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"], "render_fps": 15}

    def __init__(
        self,
        num_envs: int,
        *,
        actions: ActionSet,
        kind: str,
        frame_size: int = 64,
        fps: int = 15,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ):
        check_arguments(num_envs, max_episode_steps, render_mode, self.metadata["render_modes"])
        self.num_envs = int(num_envs)
        self.actions = actions
        self.kind = kind
        self.max_episode_steps = None if max_episode_steps == -1 else max_episode_steps
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {
            **self.metadata,
            "render_fps": fps,
            "autoreset_mode": self.autoreset_mode,
        }
        shape = (frame_size, frame_size, 3)
        self.single_observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.single_action_space = spaces.Discrete(len(actions))
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

        self.frames: NDArray[np.uint8] = np.zeros((self.num_envs, *shape), np.uint8)
        self._elapsed = np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, np.bool_)
        self._begun = np.zeros(self.num_envs, np.bool_)
        self._rngs: list[np.random.Generator | None] = [None] * self.num_envs
        self._rng_seeds: list[int | None] = [None] * self.num_envs
        self._window: Window | None = None
        self.copy = True  # False returns `frames` itself, which the next step overwrites
        self.alone = False  # True in a single env, whose error messages do not mention rows

    # What a subclass implements ------------------------------------------------------------

    @abstractmethod
    def _begin_rows(self, rows: Rows, options: dict[str, Any]) -> dict[str, NDArray[Any]]:
        """Starts an episode in each of these rows; the other rows must not change.

        Implementations write ``self.frames[rows]`` and draw random numbers only from
        ``self.np_random[row]``. If any rows have new random generators, `_rows_reseeded` is called
        with these rows first.

        Returns:
            The infos: for each key, an array with one entry per row in ``rows``.
        """

    @abstractmethod
    def _step_rows(self, rows: Rows, actions: NDArray[np.int64]) -> RowsOutcome:
        """Steps these rows and writes ``self.frames[rows]``; the other rows must not change."""

    @abstractmethod
    def _save_row(self, row: int) -> bytes:
        """Returns the simulator's state for one row, as bytes."""

    @abstractmethod
    def _load_rows(self, rows: Rows, state: bytes) -> None:
        """Restores these rows from a state that `_save_row` returned in an env of this kind."""

    def _show_frame(self, rows: Rows, frame: NDArray[np.uint8]) -> None:
        """Sets the newest frame of these rows."""
        self.frames[rows] = frame

    def _observations(self) -> Any:
        """Returns the frames that `reset` and `step` return."""
        return self.frames.copy() if self.copy else self.frames

    def _fetch_frames(self) -> None:
        """Updates ``self.frames`` before it is read, in envs that keep their frames elsewhere."""

    def _rows_reseeded(self, rows: Rows) -> None:
        """Is called before `_begin_rows` with the rows that have new random generators."""

    def _check_options(self, options: dict[str, Any]) -> None:
        """Raises ValueError for unknown reset options; by default, for every option."""
        if options:
            known = "no reset options" if self.alone else "only the reset option 'reset_mask'"
            raise ValueError(f"this env has {known}, got {sorted(options)}")

    def _render_row(self, row: int) -> NDArray[np.uint8]:
        """Returns the rendered image of a row; by default, this is the row's frame."""
        return self.frames[row].copy()

    # Gymnasium's interface -----------------------------------------------------------------

    @property
    def action_meanings(self) -> tuple[str, ...]:
        """The meaning of each action index."""
        return self.actions.meanings

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """One random generator per row."""
        for row, rng in enumerate(self._rngs):
            if rng is None:
                self._rngs[row], self._rng_seeds[row] = seeding.np_random()
        return tuple(rng for rng in self._rngs if rng is not None)

    @property
    def np_random_seed(self) -> tuple[int | None, ...]:  # type: ignore[override]
        """The seed of each row's random generator."""
        return tuple(self._rng_seeds)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Starts new episodes.

        Args:
            seed: One seed per row, or an integer for ``seed, seed + 1, ...``; None: no new seeds.
            options: ``{"reset_mask": bool array}`` resets only the marked rows; subclasses define
                further options.

        Returns:
            The frames of all rows, and the infos of the rows that were reset.
        """
        self._check_open()
        options = dict(options or {})
        rows = masked_rows(options.pop("reset_mask", None), self.num_envs)
        self._check_options(options)
        seeds = seeds_by_row(seed, self.num_envs)
        for row in rows:
            if seeds[row] is not None:
                self._rngs[row], self._rng_seeds[row] = seeding.np_random(seeds[row])
        return self._reset(rows, [row for row in rows if seeds[row] is not None], options)

    def reset_with_generator(
        self, rng: np.random.Generator, *, seeded: bool, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Resets an env that has only one row and gives it the caller's random generator."""
        self._check_open()
        options = dict(options or {})
        self._check_options(options)
        self._rngs = [rng]
        return self._reset(np.arange(1), [0] if seeded else [], options)

    def _reset(
        self, rows: Rows, reseeded: list[int], options: dict[str, Any]
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        fresh = [row for row in rows if row in reseeded or not self._begun[row]]
        if fresh:
            self._rows_reseeded(np.array(fresh, np.intp))
        infos: dict[str, Any] = {}
        self._begin(rows, options, infos)
        self._show()
        return self._observations(), infos

    def step(
        self, actions: Any
    ) -> tuple[
        NDArray[np.uint8],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Steps all rows; the autoreset mode decides what happens to rows whose episode ended."""
        self._check_open()
        actions = self._check_actions(actions)
        self._check_steppable()
        rewards = np.zeros(self.num_envs, np.float64)
        terminated = np.zeros(self.num_envs, np.bool_)
        truncated = np.zeros(self.num_envs, np.bool_)
        infos: dict[str, Any] = {}

        restarting = np.flatnonzero(self._ended)
        live = np.flatnonzero(~self._ended)
        if live.size:
            outcome = self._step_rows(live, actions[live])
            self._elapsed[live] += 1
            rewards[live] = outcome.rewards
            terminated[live] = outcome.terminated
            truncated[live] = outcome.truncated | self._out_of_time(live)
            truncated &= ~terminated
        if restarting.size:
            self._begin(restarting, {}, infos)

        self._ended = terminated | truncated
        if live.size:
            self._add_infos(live, outcome.infos, infos)
        self._show()
        return self._observations(), rewards, terminated, truncated, infos

    def save_state(self) -> list[bytes]:
        """Returns the state of each row as bytes; `load_state` can restore it in any process."""
        self._check_open()
        self._check_begun()
        self._fetch_frames()
        rngs = self.np_random
        return [
            RowState(
                kind=self.kind,
                elapsed=int(self._elapsed[row]),
                ended=bool(self._ended[row]),
                rng=dict(rngs[row].bit_generator.state),
                frame=self.frames[row].tobytes(),
                simulator=self._save_row(row),
            ).to_bytes()
            for row in range(self.num_envs)
        ]

    def load_state(
        self, states: Sequence[bytes], rows: Sequence[int] | None = None
    ) -> NDArray[np.uint8]:
        """Restores rows from saved states; the other rows do not change.

        Args:
            states: States saved by this env or by another env of the same kind.
            rows: The row to load each state into; by default all rows in order.

        Returns:
            The frames of all rows.
        """
        self._check_open()
        rows = list(range(self.num_envs)) if rows is None else [int(row) for row in rows]
        if len(states) != len(rows) or not all(0 <= row < self.num_envs for row in rows):
            raise ValueError(
                f"expected one state per row (sub-env) and rows from 0 to {self.num_envs - 1}, got "
                f"{len(states)} states for rows {rows}"
            )
        distinct = {id(state): state for state in states}  # a state is often loaded into many rows
        unpacked = {key: RowState.from_bytes(s, kind=self.kind) for key, s in distinct.items()}
        if any(len(state.frame) != self.frames[0].nbytes for state in unpacked.values()):
            raise ValueError(
                f"this env has frames of shape {self.frames.shape[1:]}, but the states were saved "
                "with another shape: load them into an env with the same frame_size"
            )
        for key, state in unpacked.items():
            same = [row for row, given in zip(rows, states, strict=True) if id(given) == key]
            self._load(np.array(same), state)
        self._show()
        return self._observations()

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Returns one image per row in mode "rgb_array".

        In mode "human", shows a window and returns None.
        """
        self._check_open()
        if self.render_mode is None:
            raise error.Error(
                "render() needs a render mode, got render_mode=None: make the env with "
                "render_mode='rgb_array'"
            )
        self._check_begun()
        if self.render_mode == "human":
            self._show()
            return None
        self._fetch_frames()
        return tuple(self._render_row(row) for row in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the window; subclasses also close their simulator."""
        if self._window is not None:
            self._window.close()
            self._window = None

    # Helpers -------------------------------------------------------------------------------

    def _begin(self, rows: Rows, options: dict[str, Any], infos: dict[str, Any]) -> None:
        columns = self._begin_rows(rows, options)
        self._elapsed[rows], self._ended[rows], self._begun[rows] = 0, False, True
        self._scatter(rows, columns, infos)

    def _load(self, rows: Rows, state: RowState) -> None:
        self._load_rows(rows, state.simulator)
        frame = np.frombuffer(state.frame, np.uint8).reshape(self.frames[0].shape)
        self._show_frame(rows, frame)
        self._elapsed[rows], self._ended[rows], self._begun[rows] = state.elapsed, state.ended, True
        for row in rows:
            self.np_random[row].bit_generator.state = state.rng

    def _add_infos(self, live: Rows, columns: dict[str, Any], infos: dict[str, Any]) -> None:
        """Adds the step's infos; in mode SAME_STEP also restarts the rows that have ended."""
        ended = self._ended[live]
        if self.autoreset_mode is not AutoresetMode.SAME_STEP or not ended.any():
            self._scatter(live, columns, infos)
            return
        finals = live[ended]
        infos["final_obs"] = np.full(self.num_envs, None, dtype=object)
        observations = self._observations()
        for row in finals:
            infos["final_obs"][row] = observations[row] if self.copy else observations[row].copy()
        infos["final_info"] = {}
        self._scatter(finals, {k: v[ended] for k, v in columns.items()}, infos["final_info"])
        infos["_final_obs"], infos["_final_info"] = self._ended.copy(), self._ended.copy()
        if not ended.all():
            self._scatter(live[~ended], {k: v[~ended] for k, v in columns.items()}, infos)
        self._begin(finals, {}, infos)

    def _scatter(self, rows: Rows, columns: dict[str, Any], infos: dict[str, Any]) -> None:
        """Adds infos of some rows in Gymnasium's layout: an array and a ``_key`` mask per key."""
        for key, values in columns.items():
            values = np.asarray(values)
            if key not in infos:
                infos[key] = np.zeros((self.num_envs, *values.shape[1:]), values.dtype)
                infos[f"_{key}"] = np.zeros(self.num_envs, np.bool_)
            infos[key][rows] = values
            infos[f"_{key}"][rows] = True

    def _out_of_time(self, rows: Rows) -> NDArray[np.bool_]:
        if self.max_episode_steps is None:
            return np.zeros(len(rows), np.bool_)
        return self._elapsed[rows] >= self.max_episode_steps

    def _check_actions(self, actions: Any) -> NDArray[np.int64]:
        return checked_actions(actions, self.num_envs, self.action_meanings)

    def _check_open(self) -> None:
        if self.closed:
            raise error.ClosedEnvironmentError(
                f"this {type(self).__name__} is closed: make a new one"
            )

    def _check_begun(self) -> None:
        if not self._begun.all():
            who = "there is" if self.alone else "some rows have"
            raise error.ResetNeeded(f"{who} no episode yet: call reset() first")

    def _check_steppable(self) -> None:
        self._check_begun()
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            if self.alone:
                raise error.ResetNeeded("the episode has ended: call reset() first")
            raise error.ResetNeeded(
                f"the episodes in sub-envs {np.flatnonzero(self._ended).tolist()} have ended: "
                "call reset(options={'reset_mask': terminated | truncated}) first"
            )

    def _show(self) -> None:
        if self.render_mode != "human" or not self._begun.all():
            return
        if self._window is None:
            title = self.spec.id if self.spec is not None else self.kind
            self._window = Window(title=title, fps=self.metadata["render_fps"])
        self._fetch_frames()
        self._window.show(tile([self._render_row(row) for row in range(self.num_envs)]))
