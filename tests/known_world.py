"""A world whose every score is known: it dreams the moving square rightly but for planned flaws.

It has what `benchmarks.dreams` asks of a `WorldModel`. Its real game lives on a board of 16 x 16
pixels (`square_world`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from types import SimpleNamespace

import torch
from torch import Tensor

from tests.square_world import CELL, GOAL, MOVES, SIDE, draw, play
from world_models.inference.prediction import Prediction, Rollout

NUM_CODES = 16
SHADE = 20  # grey levels by which the tokenizer makes everything too blue


@dataclass(frozen=True)
class Place:
    """Where B squares are, and at which steps so far they were on the goal."""

    cells: Tensor
    seeds: Tensor
    won: tuple[Tensor, ...] = ()

    def clone(self) -> Place:
        return self

    def rows(self, index: Tensor) -> Place:
        won = tuple(w[index] for w in self.won)
        return replace(self, cells=self.cells[index], seeds=self.seeds[index], won=won)

    def reseed(self, seeds: Tensor) -> Place:
        return replace(self, seeds=seeds)


class KnownWorld:
    """Moves the square as the game does.

    Args:
        noise: Grey levels that frame t (from 1) of a dream is too bright by, everywhere, times t.
        deaf: Whether it ignores actions.
        lag: For how many steps it stands still first: 1 makes it miss the first action.
        late: By how many steps its rewards and ends come too late.
        chance: Grey levels by which frames of one seed are brighter than those of the seed before.
    """

    latent_action = None
    dynamics = SimpleNamespace(space=SimpleNamespace(num_codes=NUM_CODES))

    def __init__(
        self, noise: int = 0, deaf: bool = False, lag: int = 0, late: int = 0, chance: int = 0
    ):
        self.noise, self.deaf, self.lag, self.late, self.chance = noise, deaf, lag, late, chance
        self.tokenizer = self

    def reconstruct(self, frames: Tensor, num_prompt: int = 1) -> Tensor:
        """The frames, with one channel a little wrong."""
        shaded = frames.clone()
        shaded[..., 2] += SHADE
        return shaded

    def start(self, frames: Tensor, actions: Tensor, seeds: Tensor) -> Place:
        index = (frames[..., ::CELL, ::CELL, 0] == 255).flatten(2).int().argmax(-1)
        cells = torch.stack((index // SIDE, index % SIDE), -1)
        assert play(cells[:, 0], actions)[0].equal(cells), "the actions do not fit the frames"
        return Place(cells[:, -1], seeds)

    def step(self, state: Place, action: Tensor) -> tuple[Place, Prediction]:
        steps = len(state.won)
        moves = MOVES[action] if steps >= self.lag and not self.deaf else MOVES[0]
        cells = (state.cells + moves).clamp(0, SIDE - 1)
        state = replace(state, cells=cells, won=(*state.won, (cells == GOAL).all(-1).float()))
        bright = draw(cells).int() + self.noise * (steps + 1)
        bright += self.chance * (state.seeds % 5).view(-1, 1, 1, 1).int()
        told = state.won[-1 - self.late] if steps >= self.late else torch.zeros(len(cells))
        return state, Prediction(
            frames=bright.clamp(max=255).to(torch.uint8),
            tokens=torch.zeros(len(cells), 4, dtype=torch.int64),
            entropy=torch.full((len(cells), 4), 0.1 * (steps + 1)),
            reward=told,
            termination=0.9 * told,
            passes=torch.ones(len(cells)),
        )

    def rollout(self, frames: Tensor, actions: Tensor, seeds: Tensor) -> Rollout:
        between = frames.shape[1] - 1
        state, steps = self.start(frames, actions[:, :between], seeds), []
        for action in actions[:, between:].unbind(1):
            state, prediction = self.step(state, action)
            steps.append(prediction)
        return Rollout(
            *(torch.stack([getattr(p, f.name) for p in steps], 1) for f in fields(Rollout))
        )

    def imagine(
        self, frames: Tensor, actions: Tensor, seeds: Tensor, frames_per_call: int | None
    ) -> Rollout:
        return replace(self.rollout(frames, actions, seeds), reward=None, termination=None)
