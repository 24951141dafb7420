"""A learned world as a Gymnasium env and vector env."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from genie_gym.envs import dream_state
from genie_gym.envs.arguments import named_arguments
from genie_gym.envs.loaded_worlds import open_world
from genie_gym.envs.prompt import Prompt, read_prompt
from genie_gym.envs.reward_values import REWARD_MODES, payable
from genie_gym.envs.rows import Rows, RowsOutcome
from genie_gym.envs.single import FrameEnv
from genie_gym.envs.vector import FrameVectorEnv
from world_models.inference.parallel import (
    MIN_ROWS,
    Step,
    step_in_parts,
    threads,
    threads_of_an_operation,
)
from world_models.inference.state import WorldState, merge_rows
from world_models.inference.uncertainty import frame_uncertainty
from world_models.worlds.bundle import StartBank

__all__ = ["GenieEnv", "GenieVectorEnv"]

_OUTPUTS = ("numpy", "torch")
_MAX_SEED = 2**63


@named_arguments
class GenieVectorEnv(FrameVectorEnv):
    """A vector env of a learned world. Each step computes all rows (sub-envs) in one batch.

    An episode, called a dream, starts from real frames. Pass them as ``reset(options={"frames":
    ..., "actions": ...})``, with or without a leading axis of rows; by default they are sampled
    from the starts stored with the world. `reset` returns the last real frame, `step` dreamed ones.

    The reward is the expected reward that the world predicts; the argument `reward` can change it
    to a reward that the game gives. The world also predicts the probability that the action ended
    the episode; the env samples *terminated* from this probability, so episodes end as often as in
    the data. An episode is truncated by `max_episode_steps` and `truncate_when_unsure`.

    Each row depends only on its own seed and actions. On a CPU its frames are bit-identical for
    any number of rows; on a GPU or when compiled, only for the same number of rows.

    Infos: ``entropy``, the world's uncertainty about the frame, from 0 to 2: the mean of
    2H / ln K over the most uncertain quarter of the tokens (0 for the frame of `reset`).
    ``outcome``, always False, is present only if the world predicts neither rewards nor ends of
    episodes; then the reward is 0, and no episode terminates.

    Args:
        world: Name or path of the world.
        num_envs: Number of sub-envs, called rows.
        device: "cpu", "cuda", ...; "auto" uses a GPU if there is one.
        dtype: "float32", "bfloat16" or "float16"; "auto" is bfloat16 if the device computes
            in it natively, else float32.
        num_threads: Maximum number of CPU threads, between which the rows are divided; by default
            ``torch.get_num_threads()``. A few rows of a small model use one thread.
        compile: Compile the step. It runs faster, especially with few rows, but compiling takes
            minutes, depending on ``num_envs``, and on a CPU needs a C++ compiler.
        steps: Maximum number of sampling passes per frame. For this argument and the next three,
            None uses the world's own setting.
        temperature: Softmax temperature of sampling; 0 takes the most likely token.
        threshold: Minimum probability at which a token is unmasked ahead of the schedule; with 1,
            every frame takes all passes.
        carried_frames: Number of most recent frames to continue from when the dynamics model has
            used all its positions; only for worlds with a `horizon`.
        starts: Dataset folder to sample the starts of episodes from, instead of the few starts
            stored with the world. A quarter of the sampled starts are beginnings of episodes.
        reward: "expected" for the mean of the predicted rewards; "sampled" for a random reward of
            the game, drawn so that its mean is the expected reward; "rounded" for the reward of the
            game nearest to the expected one. If the world does not store the rewards of the game,
            whole numbers are used.
        truncate_when_unsure: Truncate an episode when ``entropy`` exceeds this value. This keeps an
            agent from learning on frames that the world cannot predict well.
        uncertainty_penalty: Factor of ``entropy`` that is subtracted from the reward.
        action_set: If given, it must be the name of the world's action set.
        autoreset_mode: When a row starts its next episode after one has ended.
        max_episode_steps: Steps after which a row is truncated; None or -1 for no limit.
        render_mode: None, "rgb_array" or "human".
        output: "torch" returns frames as tensors on the device; everything else stays numpy.

    Raises:
        WorldNotFoundError: If the world is not on this machine; the message says how to build it.
        BundleError: If the world is damaged.

    Warns:
        UserWarning: If the world predicts neither rewards nor ends of episodes.
    """

    def __init__(
        self,
        world: str | Path,
        num_envs: int = 1,
        *,
        device: str = "auto",
        dtype: str = "auto",
        num_threads: int | None = None,
        compile: bool = False,
        steps: int | None = None,
        temperature: float | None = None,
        threshold: float | None = None,
        carried_frames: int | None = None,
        starts: str | Path | None = None,
        reward: str = "expected",
        truncate_when_unsure: float | None = None,
        uncertainty_penalty: float = 0.0,
        action_set: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        output: str = "numpy",
    ):
        if output not in _OUTPUTS:
            raise ValueError(f"output must be one of {_OUTPUTS}, got {output!r}")
        if reward not in REWARD_MODES:
            raise ValueError(f"reward must be one of {REWARD_MODES}, got {reward!r}")
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, got {num_threads}")
        self.world = open_world(world, device, dtype, compile)
        self.world.check_action_set(action_set)
        super().__init__(
            num_envs,
            actions=self.world.actions,
            kind=f"GenieRedux/{self.world.identity}",
            frame_size=self.world.card.frame_size,
            autoreset_mode=autoreset_mode,
            max_episode_steps=max_episode_steps,
            render_mode=render_mode,
        )
        self._outcomes = self.world.card.outcomes
        if not self._outcomes:
            warnings.warn(_no_outcomes(self.world.card.name), stacklevel=2)
        given = {
            "steps": steps,
            "temperature": temperature,
            "threshold": threshold,
            "carried_frames": carried_frames,
        }
        self.model = self.world.model.sampled(**{k: v for k, v in given.items() if v is not None})
        self._step_model: Step = self.model.step
        num_threads = num_threads or torch.get_num_threads()
        parts = min(num_threads, num_envs // MIN_ROWS)
        if parts > 1 and not compile and self.world.device.type == "cpu":
            self._step_model = partial(step_in_parts, self.model.step, parts)
        self._num_threads = num_threads
        if not compile:  # compiled code runs each operation on all threads
            self._num_threads = threads_of_an_operation(self.model, num_threads)
        self._output = output
        self._starts = self.world.starts
        if starts is not None:
            self._starts = self.world.starts_from(Path(starts))
        self._max_entropy = np.inf if truncate_when_unsure is None else truncate_when_unsure
        self._penalty = uncertainty_penalty
        self._reward = reward
        self.prompts: list[NDArray[np.uint8] | None] = [None] * num_envs
        """The real frames that each row's episode started from, ``(k, H, W, 3)``."""
        self._state: WorldState | None = None
        self._start_tokens: dict[int, Tensor] = {}
        # The newest frames. On a CPU `frames` shares its memory.
        self._screen = torch.zeros(self.frames.shape, dtype=torch.uint8, device=self.world.device)
        if self.world.device.type == "cpu":
            self.frames = self._screen.numpy()

    def reseed(self, seeds: Sequence[int]) -> None:
        """Replaces the seeds of the rows, so that the same actions lead to different frames."""
        self._check_open()
        self._check_begun()
        if len(seeds) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} seeds, one per row, got {len(seeds)}")
        assert self._state is not None
        for row, seed in enumerate(seeds):
            self._rngs[row], self._rng_seeds[row] = seeding.np_random(int(seed))
        self._state = self._state.reseed(self._draw_seeds(np.arange(self.num_envs)))

    # Methods of the base class -------------------------------------------------------------

    def _check_options(self, options: dict[str, Any]) -> None:
        if self._prompt(options) is None:
            self._start_bank()

    def _begin_rows(self, rows: Rows, options: dict[str, Any]) -> dict[str, NDArray[Any]]:
        prompt = self._prompt(options)
        if prompt is None:
            frames, actions, tokens = self._draw_starts(rows)
        else:
            frames = torch.tensor(prompt.frames[rows]).to(self.world.device)
            actions = torch.tensor(prompt.actions[rows]).to(self.world.device)
            tokens = None
        with threads(self._num_threads):
            started = self.model.start(frames, actions, self._draw_seeds(rows), tokens=tokens)
            self._put(rows, replace(started, encoder=None))
            self._show_frames(rows, frames[:, -1])
        for row, clip in zip(rows, frames.cpu().numpy(), strict=True):
            self.prompts[row] = clip
        return self._infos(np.zeros(len(rows), np.float32))

    def _step_rows(self, rows: Rows, actions: NDArray[np.int64]) -> RowsOutcome:
        # The other rows are stepped too, which does no harm: their episodes have ended.
        assert self._state is not None
        chosen = np.zeros(self.num_envs, np.int64)
        chosen[rows] = actions
        action = torch.from_numpy(chosen).to(self.world.device)
        with threads(self._num_threads):
            self._state, prediction = self._step_model(self._state, action)
            self._show_frames(np.arange(self.num_envs), prediction.frames)
            entropy = frame_uncertainty(prediction.entropy, self.model.dynamics.space.num_codes)
            outcome = torch.stack((prediction.reward, prediction.termination, entropy))
        numbers = outcome.cpu().numpy()
        if not self._outcomes:
            numbers[:2] = 0
        rngs = self.np_random
        ends = np.array([rngs[row].random() for row in rows]) < numbers[1, rows]
        unsure = numbers[2, rows]
        return RowsOutcome(
            rewards=self._paid(numbers[0, rows], rows) - self._penalty * unsure,
            terminated=ends,
            truncated=unsure > self._max_entropy,
            infos=self._infos(unsure),
        )

    def _save_row(self, row: int) -> bytes:
        assert self._state is not None
        return dream_state.to_bytes(self._state.rows(self._index(np.array([row]))))

    def _load_rows(self, rows: Rows, state: bytes) -> None:
        saved = dream_state.from_bytes(state, self.world.device)
        self._put(rows, saved.rows(self._index(np.zeros_like(rows))))

    def _show_frame(self, rows: Rows, frame: NDArray[np.uint8]) -> None:
        self._show_frames(rows, torch.tensor(frame).to(self.world.device))

    def _check_actions(self, actions: Any) -> NDArray[np.int64]:
        return super()._check_actions(_to_host(actions))

    def _observations(self) -> Any:
        return self._screen.clone() if self._output == "torch" else super()._observations()

    def _fetch_frames(self) -> None:
        if self._output == "torch" and self._screen.device.type != "cpu":
            self.frames[:] = self._screen.cpu().numpy()

    def close_extras(self, **kwargs: Any) -> None:
        """Frees the dream's state; the world stays in memory for other envs."""
        super().close_extras(**kwargs)
        self._state = None

    # Helpers -------------------------------------------------------------------------------

    def _prompt(self, options: dict[str, Any]) -> Prompt | None:
        return read_prompt(
            {name: _to_host(value) for name, value in options.items()},
            num_rows=self.num_envs,
            frame_size=self.world.card.frame_size,
            num_actions=len(self.actions),
        )

    def _start_bank(self) -> StartBank:
        if self._starts is None:
            raise ValueError(
                f"the world {self.world.card.name} has no start bank: pass real frames with "
                "reset(options={'frames': ..., 'actions': ...}) and set autoreset_mode='Disabled' "
                "to do so for each episode, or pass a dataset with starts=FOLDER"
            )
        return self._starts

    def _draw_starts(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Samples starts: frames, actions and tokens; each start is encoded once."""
        starts, rngs, known = self._start_bank(), self.np_random, self._start_tokens
        drawn = [int(rngs[row].integers(len(starts.frames))) for row in rows]
        frames = starts.frames[drawn].to(self.world.device)
        with threads(self._num_threads):
            for start, clip in zip(drawn, frames, strict=True):
                if start not in known:
                    known[start] = self.model.tokenizer.encode(clip[None], num_prompt=len(clip))[0]
        tokens = torch.stack([known[start] for start in drawn])
        return frames, starts.actions[drawn].to(self.world.device), tokens

    def _paid(self, expected: NDArray[Any], rows: Rows) -> NDArray[Any]:
        """Returns the rewards of some rows; only "sampled" draws random numbers for them."""
        if self._reward == "expected" or not self._outcomes:
            return expected
        draws, rngs = None, self.np_random
        if self._reward == "sampled":
            draws = np.array([rngs[row].random() for row in rows])
        return payable(expected, self.world.card.rewards, draws)

    def _infos(self, entropy: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        none = {} if self._outcomes else {"outcome": np.zeros(len(entropy), np.bool_)}
        return {"entropy": entropy, **none}

    def _draw_seeds(self, rows: Rows) -> Tensor:
        rngs = self.np_random
        seeds = [int(rngs[row].integers(_MAX_SEED)) for row in rows]
        return torch.tensor(seeds, device=self.world.device)

    def _put(self, rows: Rows, fresh: WorldState) -> None:
        self._state = merge_rows(self._state, self._index(rows), fresh, self.num_envs)

    def _show_frames(self, rows: Rows, frames: Tensor) -> None:
        self._screen[self._index(rows)] = frames
        if self._output == "numpy" and self._screen.device.type != "cpu":
            self.frames[rows] = self._screen[self._index(rows)].cpu().numpy()

    def _index(self, rows: Rows) -> Tensor:
        return torch.as_tensor(rows.astype(np.int64), device=self.world.device)


class GenieEnv(FrameEnv):
    """A learned world as a single env. The arguments are those of `GenieVectorEnv`.

    Example:
        >>> env = gymnasium.make("GenieRedux/CoinRun-v0")  # doctest: +SKIP
    """

    def __init__(self, world: str | Path, **options: Any):
        super().__init__(GenieVectorEnv(world, autoreset_mode=AutoresetMode.DISABLED, **options))

    def reseed(self, seed: int) -> None:
        """Replaces the seed of the episode, so that the same actions lead to different frames."""
        assert isinstance(self.vector_env, GenieVectorEnv)
        self.vector_env.reseed([seed])
        self.np_random = self.vector_env.np_random[0]


def _no_outcomes(name: str) -> str:
    return (
        f"the world {name} predicts neither rewards nor ends of episodes: rewards are 0, and no "
        "episode terminates; to add them: genie-gym train dynamics RECIPE --from WORLD "
        "--outcome-only --data DATA --out RUN, then genie-gym train bundle"
    )


def _to_host(given: Any) -> Any:
    """Converts a tensor on any device to an array; returns anything else unchanged."""
    return given.cpu().numpy() if isinstance(given, Tensor) else given
