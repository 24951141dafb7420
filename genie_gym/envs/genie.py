"""World models as Gymnasium envs and vector envs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
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
from genie_gym.envs.loaded_worlds import LoadedWorld, no_outcomes, open_world
from genie_gym.envs.prompt import Prompt, read_prompt
from genie_gym.envs.reward_values import REWARD_MODES, payable
from genie_gym.envs.rows import Rows, RowsOutcome
from genie_gym.envs.single import FrameEnv
from genie_gym.envs.vector import FrameVectorEnv
from world_models.inference.parallel import (
    Step,
    divided,
    threads,
    threads_of_an_operation,
)
from world_models.inference.state import WorldState, merge_rows
from world_models.inference.uncertainty import frame_uncertainty

__all__ = ["GenieEnv", "GenieVectorEnv"]

_OUTPUTS = ("numpy", "torch")
_MAX_SEED = 2**63


@named_arguments
class GenieVectorEnv(FrameVectorEnv):
    """A vector env in which a world model generates the frames.

    Each step computes all rows (sub-envs) in one batch. An episode is called a dream and starts
    from real frames. You can pass them as ``reset(options={"frames": ..., "actions": ...})``, with
    or without a leading axis for the rows. By default, they are sampled from the real frames stored
    with the world model. `reset` returns the last real frame, and `step` returns generated frames.

    By default, the reward is the expected reward that the world model predicts, or, for a world
    model with `rounded_rewards` in its card, the nearest reward of the game; the argument `reward`
    can change this. The model also predicts the probability that the action ended the episode. The
    env samples *terminated* from this probability, so episodes end as often as in the training
    data. Episodes are truncated by `max_episode_steps` and `truncate_when_unsure`.

    Each row depends only on its own seed and actions. On a CPU, a row's frames are bit-identical
    for any number of rows; on a GPU or when compiled, only for the same number of rows.

    Infos:

    * ``entropy``: The world model's uncertainty about the frame, from 0 to 2; it is 0 for the frame
      that `reset` returns. It is the mean of 2H / ln K over the most uncertain quarter of the
      frame's tokens, where H is a token's entropy and K the number of token values.
    * ``outcome``: Always False, and present only if the world model predicts neither rewards nor
      terminations. In that case, the reward is 0 and no episode terminates.

    Args:
        world: Name or path of the world model.
        num_envs: Number of sub-envs, called rows.
        device: Device to compute on, such as "cpu" or "cuda"; "auto" uses a GPU if there is one.
        dtype: "float32", "bfloat16" or "float16"; "auto" uses bfloat16 if the device supports it
            natively and, on a CPU, if it is faster than float32; otherwise float32.
        num_threads: Maximum number of CPU threads to divide the rows between; by default
            ``torch.get_num_threads()``. A small model with few rows uses only one thread.
        compile: Whether to compile the step. Compiled steps are faster, especially with few rows,
            but compiling takes minutes, depending on ``num_envs``, and needs a C++ compiler on a
            CPU.
        steps: Maximum number of sampling passes per frame. For this argument and the next three,
            None uses the world model's own setting.
        temperature: Softmax temperature for sampling; 0 takes the most likely token.
        threshold: Minimum probability at which a token is unmasked ahead of the schedule; with 1,
            every frame takes all passes.
        carried_frames: Number of most recent frames to continue from when the dynamics model has
            used all its position embeddings; only for world models with a `horizon`.
        starts: Folder of a dataset from which to sample the real frames that dreams start from,
            instead of using the few stored with the world model. A quarter of the sampled starts
            are beginnings of recorded episodes.
        reward: "expected" for the expected reward; "sampled" for a random one of the game's
            rewards, drawn so that its mean is the expected reward; "rounded" for the game's reward
            that is nearest to the expected one. If the world model does not store the game's
            rewards, whole numbers are used. None uses the world model's own setting.
        truncate_when_unsure: Truncate an episode when ``entropy`` exceeds this value. This keeps an
            agent from learning on frames that the world model cannot predict well.
        uncertainty_penalty: The reward is reduced by this factor times ``entropy``.
        action_set: If given, must be the name of the world model's action set.
        autoreset_mode: When a row starts its next episode after the previous one has ended.
        max_episode_steps: Steps after which a row is truncated; None or -1 for no limit.
        render_mode: None, "rgb_array" or "human".
        output: "numpy" or "torch". "torch" returns frames as tensors on the device; everything
            else is still a NumPy array.

    Raises:
        WorldNotFoundError: If the world model is not on this machine; the message says how to build
            it.
        BundleError: If the world model's files are damaged.

    Warns:
        UserWarning: If the world model predicts neither rewards nor terminations.
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
        reward: str | None = None,
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
        if reward not in (None, *REWARD_MODES):
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
            message = no_outcomes(self.world.card, "rewards are 0 and no episode terminates")
            warnings.warn(message, stacklevel=2)
        given = {
            "steps": steps,
            "temperature": temperature,
            "threshold": threshold,
            "carried_frames": carried_frames,
        }
        self.model = self.world.model.sampled(**{k: v for k, v in given.items() if v is not None})
        if reward is not None:
            self.model = self.model.unrounded()
        self._step_model: Step = self.model.step
        num_threads = num_threads or torch.get_num_threads()
        self._num_threads = num_threads
        if not compile:  # compiled code runs each operation on all threads
            on = self.world.device
            self._step_model = divided(self.model.step, num_envs, num_threads, on)
            self._num_threads = threads_of_an_operation(self.model, num_threads)
        self._output = output
        self._starts = self.world.starts
        if starts is not None:
            self._starts = self.world.starts_from(Path(starts))
        self._max_entropy = np.inf if truncate_when_unsure is None else truncate_when_unsure
        self._penalty = uncertainty_penalty
        self._reward = reward
        self.prompts: list[NDArray[np.uint8] | None] = [None] * num_envs
        """For each row, the real frames ``(k, H, W, 3)`` that its episode started from."""
        self._state: WorldState | None = None
        self._start_tokens: dict[int, Tensor] = {}
        # The newest frames. On a CPU, `self.frames` is a view of this tensor.
        self._screen = torch.zeros(self.frames.shape, dtype=torch.uint8, device=self.world.device)
        if self.world.device.type == "cpu":
            self.frames = self._screen.numpy()

    def reseed(self, seeds: Sequence[int]) -> None:
        """Replaces each row's seed, so that the same actions lead to different frames."""
        self._check_open()
        self._check_begun()
        if len(seeds) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} seeds, one per sub-env, got {len(seeds)}")
        assert self._state is not None
        for row, seed in enumerate(seeds):
            self._rngs[row], self._rng_seeds[row] = seeding.np_random(int(seed))
        self._state = self._state.reseed(self._draw_seeds(np.arange(self.num_envs)))

    # Methods of the base class -------------------------------------------------------------

    def _check_options(self, options: dict[str, Any]) -> None:
        self._prompt(options)

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
        """Frees the state of the dreams; the world model stays in memory for other envs."""
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

    def _draw_starts(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Samples real frames to start from; returns the frames, their actions and tokens."""
        starts, rngs, known = self._starts, self.np_random, self._start_tokens
        drawn = [int(rngs[row].integers(len(starts.frames))) for row in rows]
        frames = starts.frames[drawn].to(self.world.device)
        with threads(self._num_threads):
            for start, clip in zip(drawn, frames, strict=True):
                if start not in known:
                    known[start] = self.model.tokenizer.encode(clip[None], num_prompt=len(clip))[0]
        tokens = torch.stack([known[start] for start in drawn])
        return frames, starts.actions[drawn].to(self.world.device), tokens

    def _paid(self, expected: NDArray[Any], rows: Rows) -> NDArray[Any]:
        """Converts the expected rewards of some rows to the rewards that `step` returns.

        Random numbers are drawn only if the argument `reward` of the env is "sampled".
        """
        if self._reward in (None, "expected") or not self._outcomes:
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
    """A single env in which a world model generates the frames.

    It takes the arguments of `GenieVectorEnv`, except `num_envs` and `autoreset_mode`.

    Example:
        >>> env = gymnasium.make("GenieRedux/CoinRun-v0")  # doctest: +SKIP
    """

    def __init__(self, world: str | Path, **options: Any):
        super().__init__(GenieVectorEnv(world, autoreset_mode=AutoresetMode.DISABLED, **options))

    @property
    def world(self) -> LoadedWorld:
        """The world model, with its card."""
        assert isinstance(self.vector_env, GenieVectorEnv)
        return self.vector_env.world

    def reseed(self, seed: int) -> None:
        """Replaces the episode's seed, so that the same actions lead to different frames."""
        assert isinstance(self.vector_env, GenieVectorEnv)
        self.vector_env.reseed([seed])
        self.np_random = self.vector_env.np_random[0]


def _to_host(given: Any) -> Any:
    """Converts a tensor on any device to an array; returns anything else unchanged."""
    return given.cpu().numpy() if isinstance(given, Tensor) else given
