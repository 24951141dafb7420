"""The real retro games; each row (sub-env) is an emulator in its own process."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from genie_gym import actions as action_sets
from genie_gym.envs import emulator
from genie_gym.envs.arguments import named_arguments
from genie_gym.envs.emulator import EmulatorConfig, outcome_dtype
from genie_gym.envs.rows import Rows, RowsOutcome
from genie_gym.envs.single import FrameEnv
from genie_gym.envs.vector import FrameVectorEnv
from genie_gym.envs.worker import SharedFrames, Worker
from genie_gym.errors import WorkerDiedError
from genie_gym.retroact import catalogue, roms

__all__ = ["RetroEnv", "RetroVectorEnv"]

_EMULATOR_FPS = 60


@named_arguments
class RetroVectorEnv(FrameVectorEnv):
    """A vector env for a retro game. Its rows (sub-envs) run in parallel emulator processes.

    A step holds the action's buttons for ``frame_skip`` emulated frames and returns the sum of
    their rewards. It stops early when the game's scenario ends the episode. Buttons that the
    scenario forbids are not pressed. The observation is the last emulated frame, padded with black
    to a square and resized by area averaging; on the Atari 2600, whose sprites flicker, it is made
    from the pixelwise maximum of the last two frames. ``info`` contains the game's variables
    (score, lives, ...) under stable-retro's names.

    The games are deterministic: every episode starts in the same state, whatever the seed.

    Loading a saved state takes milliseconds if the emulator's own snapshots are exact. Otherwise
    (paddle games, some cartridges, games with reward scripts), the env replays the episode, which
    takes about a millisecond per step.

    If an emulator process dies or does not answer in time, the call raises `WorkerDiedError`, and
    the next `reset` starts a new process.

    Args:
        game: Name of a game in the catalogue, e.g. ``"Kangaroo-Atari2600"``.
        num_envs: Number of sub-envs, called rows.
        state: The start state, one of `roms.states`; None for the game's default.
        action_set: Name of a ``retroact-*`` action set.
        frame_skip: Number of emulated frames per step.
        frame_size: Height and width of a frame, in pixels.
        autoreset_mode: When a row starts its next episode after the previous one has ended.
        max_episode_steps: Steps after which a row is truncated; None or -1 for no limit.
        render_mode: None, "rgb_array" (the console's full screen) or "human".
        timeout: Seconds to wait for an emulator's answer before killing its process.

    Raises:
        MissingRomError: If the game's ROM has not been imported.
        MissingDependencyError: If stable-retro is not installed or has no build for this platform.
    """

    def __init__(
        self,
        game: str,
        num_envs: int = 1,
        *,
        state: str | None = None,
        action_set: str = "retroact-5",
        frame_skip: int = 4,
        frame_size: int = 64,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        timeout: float = 60.0,
    ):
        self.game = catalogue.game(game)
        if frame_skip < 1 or frame_size < 1 or timeout <= 0:
            raise ValueError(
                "frame_skip and frame_size must be at least 1 and timeout positive, got "
                f"frame_skip={frame_skip}, frame_size={frame_size}, timeout={timeout}"
            )
        actions = action_sets.action_set(action_set)
        super().__init__(
            num_envs,
            actions=actions,
            kind=f"RetroAct/{self.game.name}",
            frame_size=frame_size,
            fps=max(1, round(_EMULATOR_FPS / frame_skip)),
            autoreset_mode=autoreset_mode,
            max_episode_steps=max_episode_steps,
            render_mode=render_mode,
        )
        buttons = action_sets.retro_buttons(actions, self.game.platform)
        folder = roms.require_rom(self.game.name).parent
        self._config = EmulatorConfig(
            game=self.game.retro_id,
            folder=str(folder.parent.absolute()),
            state=_start_state(self.game, state),
            buttons=buttons,
            restricted=True,
            scripted="scripts" in roms.read_json(folder / "scenario.json"),
            flicker=self.game.platform == "Atari2600",
            frame_skip=frame_skip,
            frame_size=frame_size,
            patience=2 * timeout,
        )
        self._timeout = timeout
        self._memory = SharedFrames(self.frames.shape)
        self.frames = self._memory.array
        self._workers = [self._start(row) for row in range(self.num_envs)]

    def _start(self, row: int) -> Worker:
        return Worker(self._config, frames=self._memory, row=int(row), timeout=self._timeout)

    def _begin_rows(self, rows: Rows, options: dict[str, Any]) -> dict[str, NDArray[Any]]:
        self._restart_dead(rows)
        answers = self._exchange(rows, emulator.RESET, [b""] * len(rows))
        return self._outcomes(rows, answers).infos

    def _step_rows(self, rows: Rows, actions: NDArray[np.int64]) -> RowsOutcome:
        contents = [bytes([action]) for action in actions]
        return self._outcomes(rows, self._exchange(rows, emulator.STEP, contents))

    def _save_row(self, row: int) -> bytes:
        return self._exchange([row], emulator.SAVE, [b""])[0]

    def _load_rows(self, rows: Rows, state: bytes) -> None:
        self._restart_dead(rows)
        for message in self._exchange(rows, emulator.LOAD, [state] * len(rows)):
            if message:
                raise ValueError(message.decode())

    def _render_row(self, row: int) -> NDArray[np.uint8]:
        answer = self._exchange([row], emulator.SCREEN, [b""])[0]
        height, width = emulator.SHAPE.unpack_from(answer)
        screen = np.frombuffer(answer, np.uint8, offset=emulator.SHAPE.size)
        return screen.reshape(height, width, 3).copy()

    def _restart_dead(self, rows: Rows) -> None:
        for row in rows:
            if not self._workers[row].alive:
                self._workers[row] = self._start(row)

    def memory(self, row: int = 0) -> NDArray[np.uint8]:
        """Returns a copy of the console RAM in one row, as uint8."""
        self._check_open()
        return np.frombuffer(self._exchange([row], emulator.MEMORY, [b""])[0], np.uint8)

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the emulator processes."""
        super().close_extras(**kwargs)
        for worker in self._workers:
            worker.disconnect()
        for worker in self._workers:
            worker.close()

    def _exchange(
        self, rows: Sequence[int] | Rows, kind: bytes, contents: Sequence[bytes]
    ) -> list[bytes]:
        """Sends a command to the processes of these rows in parallel and waits for all answers."""
        workers = [self._workers[row] for row in rows]
        for worker in workers:
            worker.check_owner()
        waiting: list[Worker] = []
        answers: list[bytes] = []
        deaths: list[WorkerDiedError] = []
        try:
            for worker, content in zip(workers, contents, strict=True):
                try:
                    worker.ask(kind, content)
                    waiting.append(worker)
                except WorkerDiedError as death:
                    deaths.append(death)
            for worker in waiting:
                try:
                    answers.append(worker.answer())
                except WorkerDiedError as death:
                    deaths.append(death)
        except BaseException:  # Ctrl-C: later commands would read the unread answers
            for worker in workers:
                worker.kill()
            self._begun[:] = False
            raise
        if deaths:
            self._begun[:] = False  # the results of the other rows are lost too
            raise deaths[0]
        return answers

    def _outcomes(self, rows: Rows, answers: list[bytes]) -> RowsOutcome:
        names = self._workers[rows[0]].variables
        outcomes = np.frombuffer(b"".join(answers), outcome_dtype(len(names)))
        return RowsOutcome(
            rewards=outcomes["reward"],
            terminated=outcomes["terminated"],
            truncated=np.zeros(len(rows), np.bool_),
            infos={name: outcomes["variables"][:, place] for place, name in enumerate(names)},
        )


class RetroEnv(FrameEnv):
    """A single env for a retro game.

    It takes the arguments of `RetroVectorEnv`, except `num_envs` and `autoreset_mode`.

    Example:
        >>> env = gymnasium.make("RetroAct/Kangaroo-Atari2600-v0")  # doctest: +SKIP
    """

    def __init__(self, game: str, **options: Any):
        super().__init__(RetroVectorEnv(game, 1, autoreset_mode=AutoresetMode.DISABLED, **options))


def _start_state(game: catalogue.Game, state: str | None) -> str | None:
    if state is None:
        return game.default_state or None
    known = roms.states(roms.game_dir(game.name))
    if state in known:
        return state
    near = get_close_matches(str(state), known, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{game.name} has no start state {state!r}: expected one of {known}.{hint}")
