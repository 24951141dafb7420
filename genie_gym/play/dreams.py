"""Steps the dreams of all sessions that play in the same world model, in batches.

Sessions play at different speeds, so different dreams are due at each step. Each dream is a row,
that is, one item of a batch. If the dreams that are due do not form a batch yet, their rows are
copied into a new batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from numpy.typing import NDArray
from torch import Tensor

from genie_gym.envs.loaded_worlds import LoadedWorld
from genie_gym.play.moment import Moment
from world_models.inference.parallel import (
    divided,
    threads,
    threads_of_an_operation,
)
from world_models.inference.prediction import Prediction
from world_models.inference.state import WorldState
from world_models.inference.uncertainty import frame_uncertainty

__all__ = ["Dream", "DreamRows", "SavedDream"]

_MAX_SEED = 2**63
_KEPT_STARTS = 32


@dataclass(kw_only=True, eq=False)
class _Batch:
    """The rows that were last stepped together."""

    state: WorldState


@dataclass(frozen=True, kw_only=True)
class SavedDream:
    """A saved state of a dream, which `Dream.load` restores."""

    state: WorldState
    rng: dict[str, Any]
    last: Moment


class Dream:
    """One dream in a session."""

    def __init__(
        self, rows: DreamRows, state: WorldState, rng: np.random.Generator, last: Moment
    ) -> None:
        self.rows = rows
        self.batch, self.row = _Batch(state=state), 0
        self.rng = rng
        self.last = last

    def save(self) -> SavedDream:
        """Return a copy of the state."""
        return SavedDream(
            state=self._state(),
            rng=copy.deepcopy(dict(self.rng.bit_generator.state)),
            last=self.last,
        )

    def load(self, saved: SavedDream) -> None:
        """Go back to a saved state."""
        self.batch, self.row = _Batch(state=saved.state.clone()), 0
        self.rng.bit_generator.state = saved.rng
        self.last = saved.last

    def step(self, action: int) -> Moment:
        """Step this dream alone."""
        return self.rows.step([self], [action])[0]

    def copy(self) -> Dream:
        """Return another dream in the same state."""
        return Dream(self.rows, self._state(), copy.deepcopy(self.rng), self.last)

    def reseed(self, seed: int) -> None:
        """Change the random numbers for later steps; the past stays the same."""
        state = self._state()
        seeds = torch.tensor([seed], device=state.seeds.device)
        self.batch, self.row = _Batch(state=state.reseed(seeds)), 0

    def close(self) -> None:
        """Do nothing: a row that is no longer stepped is dropped together with its batch."""

    def _state(self) -> WorldState:
        return self.batch.state.rows(torch.tensor([self.row], device=self.rows.world.device))


class DreamRows:
    """Starts and steps the dreams of one world model.

    A dream gives the same frames, rewards and episode end as the world model's env with the same
    seed and actions. The other dreams in the batch make no difference.

    Args:
        world: The loaded world model, which is shared with envs.
        num_threads: Maximum number of CPU threads; the dreams of a step are divided among them.
    """

    def __init__(self, world: LoadedWorld, num_threads: int):
        self.world = world
        self._max_parts = num_threads
        self._num_threads = threads_of_an_operation(world.model, num_threads)
        self._starts: dict[int, WorldState] = {}
        side = world.card.frame_size
        num_tokens = world.model.tokenizer.space.num_tokens
        self.grid = math.isqrt(num_tokens)
        self.shape = (side, side, 3)
        self._num_codes = world.model.dynamics.space.num_codes

    def begin(self, seed: int) -> Dream:
        """Start a dream from the world model's start bank, as ``env.reset(seed=seed)`` does."""
        starts = self.world.starts
        rng, _ = seeding.np_random(seed)
        drawn = int(rng.integers(len(starts.frames)))
        state = self._started(drawn).reseed(self._draw_seed(rng))
        return Dream(self, state, rng, self._first(starts.frames[drawn, -1]))

    def begin_from(
        self, frames: Sequence[NDArray[np.uint8]], actions: Sequence[int], seed: int
    ) -> Dream:
        """Start a dream from real frames and the actions between them."""
        rng, _ = seeding.np_random(seed)
        clip = torch.from_numpy(np.stack(frames))[None]
        between = torch.tensor(actions, dtype=torch.int64)[None]
        state = self._start(clip, between, self._draw_seed(rng))
        return Dream(self, state, rng, self._first(clip[0, -1]))

    def step(self, dreams: Sequence[Dream], actions: Sequence[int]) -> list[Moment]:
        """Step several dreams together, each with its own action."""
        batch = self._batch(dreams)
        with threads(self._num_threads):
            step = divided(self.world.model.step, len(dreams), self._max_parts, self.world.device)
            chosen = torch.tensor(actions, device=self.world.device)
            batch.state, prediction = step(batch.state, chosen)
            columns = self._columns(prediction)
        for row, dream in enumerate(dreams):
            dream.last = self._moment(dream, row, columns)
        return [dream.last for dream in dreams]

    # Helpers ---------------------------------------------------------------------

    def _started(self, drawn: int) -> WorldState:
        """Return the state after one of the starts in the start bank; states are cached."""
        if drawn not in self._starts:
            starts = self.world.starts
            frames, actions = starts.frames[drawn : drawn + 1], starts.actions[drawn : drawn + 1]
            with threads(self._num_threads), torch.no_grad():
                tokens = self.world.model.tokenizer.encode(
                    frames.to(self.world.device), num_prompt=frames.shape[1]
                )
            if len(self._starts) == _KEPT_STARTS:
                self._starts.pop(next(iter(self._starts)))
            self._starts[drawn] = self._start(frames, actions, None, tokens)
        return self._starts[drawn].clone()

    def _start(
        self, frames: Tensor, actions: Tensor, seeds: Tensor | None, tokens: Tensor | None = None
    ) -> WorldState:
        on = self.world.device
        with threads(self._num_threads):
            state = self.world.model.start(frames.to(on), actions.to(on), seeds, tokens=tokens)
        return replace(state, encoder=None)

    def _draw_seed(self, rng: np.random.Generator) -> Tensor:
        return torch.tensor([int(rng.integers(_MAX_SEED))], device=self.world.device)

    def _first(self, frame: Tensor) -> Moment:
        return Moment(frame=frame.numpy().copy(), patches=np.zeros(self.grid**2, np.uint8))

    def _batch(self, dreams: Sequence[Dream]) -> _Batch:
        """Return a batch of exactly these dreams, in this order."""
        batch = dreams[0].batch
        together = all(d.batch is batch and d.row == row for row, d in enumerate(dreams))
        if together and len(batch.state) == len(dreams):
            return batch
        parts = [dream._state() for dream in dreams]
        state = parts[0]
        if len(parts) > 1:
            state = state.rows(
                torch.zeros(len(parts), dtype=torch.int64, device=state.seeds.device)
            )
            for row, part in enumerate(parts[1:], 1):
                state = state.put(torch.tensor([row], device=state.seeds.device), part)
        batch = _Batch(state=state)
        for row, dream in enumerate(dreams):
            dream.batch, dream.row = batch, row
        return batch

    def _columns(self, prediction: Prediction) -> dict[str, NDArray[Any]]:
        scale = 255 / math.log(self._num_codes)
        patches = (prediction.entropy.float() * scale).round().clamp(0, 255).to(torch.uint8)
        numbers = torch.stack(
            (
                prediction.reward.float(),
                prediction.termination.float(),
                frame_uncertainty(prediction.entropy, self._num_codes),
            )
        )
        reward, termination, entropy = numbers.cpu().numpy()
        if not self.world.card.outcomes:
            reward, termination = np.zeros_like(reward), np.zeros_like(termination)
        return {
            "frame": prediction.frames.cpu().numpy(),
            "patches": patches.cpu().numpy(),
            "reward": reward,
            "termination": termination,
            "entropy": entropy,
        }

    def _moment(self, dream: Dream, row: int, columns: dict[str, NDArray[Any]]) -> Moment:
        reward = float(columns["reward"][row])
        return Moment(
            frame=columns["frame"][row].copy(),
            reward=reward,
            total=dream.last.total + reward,
            ended=bool(dream.rng.random() < columns["termination"][row]),
            entropy=float(columns["entropy"][row]),
            patches=columns["patches"][row].copy(),
        )
