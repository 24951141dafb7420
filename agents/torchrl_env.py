"""A dream as a model-based TorchRL env (requires the `torchrl` extra).

The tensordict holds the whole state of a dream, so a step can be taken again from any tensordict,
and TorchRL's planners can try many actions from one state.

Shapes: B sub-envs (called rows), H height, W width, K actions.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genie_gym.envs.loaded_worlds import no_outcomes, open_world
from world_models.extras import require
from world_models.inference.state import WorldState
from world_models.inference.world import WorldModel
from world_models.model.kv_cache import ROW_AXES

_NEEDS = "TorchRL envs need TorchRL"
tensordict = require("tensordict", extra="torchrl", what=_NEEDS)
data = require("torchrl.data", extra="torchrl", what=_NEEDS)
envs = require("torchrl.envs.model_based.common", extra="torchrl", what=_NEEDS)

__all__ = ["DreamEnv"]


class DreamEnv(envs.ModelBasedEnvBase):  # type: ignore[name-defined]
    """A world model as a TorchRL env.

    A tensordict has these entries:

    * `pixels`: The frame, uint8 ``(H, W, 3)``.
    * `reward`: The expected value of the reward.
    * `terminated`: Whether the episode ended, sampled with the predicted probability.
    * `state`: The dream's state.

    An `action` is a vector of K numbers; the index of the largest number is the discrete action.
    One-hot actions are therefore supported, and so are planners for continuous actions, such as
    `CEMPlanner`.

    Rows are independent. If the world model predicts neither rewards nor terminations, the reward
    is 0, no episode terminates, and a UserWarning is issued.

    Args:
        world: Name, path or address (such as ``hf://USER/NAME``) of the world model.
        num_envs: Number of rows; None for one row without a batch axis, as planners expect.
        device: Device of the world model.
        dtype: Floating-point type; see `genie_gym.envs.loaded_worlds.open_world`.
        seed: Seed for the starts, the dreams and the terminations.
        sampling: Fields of `SamplingConfig`, such as ``steps=2``.
    """

    def __init__(
        self,
        world: str | Path,
        num_envs: int | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        seed: int = 0,
        **sampling: Any,
    ):
        loaded = open_world(world, device, dtype)
        self.rng = torch.Generator().manual_seed(seed)
        if not loaded.card.outcomes:
            message = no_outcomes(loaded.card, "rewards are 0 and no episode terminates")
            warnings.warn(message, stacklevel=2)
        model = _Step(loaded.model.sampled(**sampling), self.rng, loaded.card.outcomes)
        batch = [] if num_envs is None else [num_envs]
        super().__init__(model, device=loaded.device, batch_size=torch.Size(batch))
        self.starts = loaded.starts
        example = self._begin(self.starts.frames[:1], self.starts.actions[:1])
        self._make_specs(example, loaded.card.num_actions)

    def begin(self, frames: Tensor, actions: Tensor) -> Any:
        """Return the tensordict for dreams that begin with these real frames.

        Args:
            frames: The real frames of each dream, uint8 ``(B, k, H, W, 3)``.
            actions: The actions between the frames, int64 ``(B, k - 1)``.
        """
        values = self._begin(frames, actions)
        batch = [len(frames)]
        ends = {n: torch.zeros(*batch, 1, dtype=torch.bool) for n in ("done", "terminated")}
        return tensordict.TensorDict({**values, **ends}, batch, device=self.device)

    def _begin(self, frames: Tensor, actions: Tensor) -> dict[str, Any]:
        seeds = torch.randint(2**62, (len(frames),), generator=self.rng)
        frames = frames.to(self.device)
        state = self.world_model.world.start(frames, actions.to(self.device), seeds.to(self.device))
        return {"pixels": frames[:, -1], "state": _to_dict(replace(state, encoder=None))}

    def _make_specs(self, example: dict[str, Any], num_actions: int) -> None:
        batch = self.batch_size

        def unbounded(x: Tensor) -> Any:
            shape = (*batch, *x.shape[1:])
            return data.Unbounded(shape, dtype=x.dtype, device=self.device)

        def composite(**specs: Any) -> Any:
            return data.Composite(**specs, shape=batch, device=self.device)

        state = {name: unbounded(x) for name, x in example["state"].items()}
        self.observation_spec = composite(
            pixels=unbounded(example["pixels"]), state=composite(**state)
        )
        self.state_spec = composite(state=composite(**state))
        self.action_spec = data.Unbounded((*batch, num_actions), device=self.device)
        self.reward_spec = data.Unbounded((*batch, 1), device=self.device)

    def _reset(self, given: Any = None, **kwargs: Any) -> Any:
        num = self.batch_size.numel()
        rows = torch.randint(len(self.starts.frames), (num,), generator=self.rng)
        fresh = self.begin(self.starts.frames[rows], self.starts.actions[rows])
        fresh = fresh.reshape(self.batch_size)
        chosen = None if given is None else given.get("_reset", None)
        if chosen is None or chosen.all():
            return fresh
        kept = given.select(*fresh.keys(True, True))
        return torch.where(chosen.view(self.batch_size), fresh, kept)

    def _set_seed(self, seed: int | None) -> None:
        if seed is not None:
            self.rng.manual_seed(seed)


class _Step(nn.Module):
    """Steps a world model from one tensordict to the next."""

    def __init__(self, world: WorldModel, rng: torch.Generator, outcomes: bool):
        super().__init__()
        self.world, self.rng, self.outcomes = world, rng, outcomes

    @torch.no_grad()
    def forward(self, given: Any) -> Any:
        batch = given.batch_size
        flat = given.select("state", "action").reshape(-1)
        rows, action = dict(flat["state"].items()), flat["action"].argmax(-1)
        state, prediction = self.world.step(_from_dict(rows), action)
        chance = torch.rand(len(action), generator=self.rng).to(action.device)
        terminated = (chance < prediction.termination) & self.outcomes

        def shaped(x: Tensor) -> Tensor:
            return x.reshape(*batch, *x.shape[1:])

        out = given.clone(recurse=False)
        out["pixels"] = shaped(prediction.frames)
        out["reward"] = shaped(self.outcomes * prediction.reward.float()[:, None])
        out["terminated"] = out["done"] = shaped(terminated[:, None])
        nested = {name: shaped(x) for name, x in _to_dict(state).items()}
        out["state"] = tensordict.TensorDict(nested, batch, device=given.device)
        return out


def _axis(name: str) -> int:
    return ROW_AXES.get(name.rpartition(".")[2], 0)  # tensors outside KV caches have axis 0


def _to_dict(state: WorldState) -> dict[str, Tensor]:
    """Return the tensors of a state, with the row axis first."""
    return {name: x.movedim(_axis(name), 0) for name, x in state.tensors().items()}


def _from_dict(rows: dict[str, Tensor]) -> WorldState:
    """Undo `_to_dict`. Copy the tensors, because a step modifies its state in place."""
    moved = {name: x.movedim(0, _axis(name)) for name, x in rows.items()}
    return WorldState.from_tensors(
        {name: x.clone(memory_format=torch.contiguous_format) for name, x in moved.items()}
    )
