"""A dream as the cost model for planners that call ``get_cost(info, candidates)``.

The solvers of stable-worldmodel use this interface; this module does not import stable-worldmodel.
Shapes: B envs, S candidates per env, T steps, K actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genie_gym.envs.loaded_worlds import no_outcomes, open_world
from world_models.inference.parallel import divided
from world_models.inference.world import WorldModel
from world_models.pixels import to_uint8

__all__ = ["DreamCost"]


class DreamCost:
    """Computes the cost of action sequences: the negative return that a world model predicts.

    The return is an expectation: each reward is weighted by the probability that the episode has
    not ended before it. All candidates in all calls use the same random numbers, so a cost depends
    only on the frame and the actions, and equal candidates have equal costs.

    Args:
        model: The world model, in eval mode.
        num_actions: Number K of actions.
        device: Device of the model.
        discount: Discount factor per step.
        seed: Seed of the dreams.
        max_rows: Maximum number of dreams that run at once. Each takes a few megabytes of memory.
    """

    def __init__(
        self,
        model: WorldModel,
        num_actions: int,
        *,
        device: torch.device | str = "cpu",
        discount: float = 1.0,
        seed: int = 0,
        max_rows: int = 64,
    ):
        if not 0 < discount <= 1 or max_rows < 1:
            raise ValueError(
                f"expected 0 < discount <= 1 and max_rows >= 1, got {discount} and {max_rows}"
            )
        self.model, self.num_actions, self.device = model, num_actions, torch.device(device)
        self.discount, self.seed, self.max_rows = discount, seed, max_rows

    @classmethod
    def of(
        cls, world: str | Path, *, device: str = "auto", dtype: str = "auto", **options: Any
    ) -> DreamCost:
        """Load a world model by name, path or address (``hf://...``), and return its `DreamCost`.

        `options` are arguments of `DreamCost` and fields of `SamplingConfig`, such as ``steps=2``.

        Raises:
            ValueError: If the world model predicts no rewards, because costs are then undefined.
        """
        loaded = open_world(world, device, dtype)
        if not loaded.card.outcomes:
            raise ValueError(no_outcomes(loaded.card, "all plans would cost the same"))
        own = {name: options.pop(name) for name in _OPTIONS if name in options}
        model = loaded.model.sampled(**options)
        return cls(model, loaded.card.num_actions, device=loaded.device, **own)

    @torch.inference_mode()
    def get_cost(self, info_dict: Mapping[str, Any], action_candidates: Tensor) -> Tensor:
        """Return the cost of each candidate, float32 ``(B, S)``.

        Args:
            info_dict: The entry ``"pixels"`` has the frame that each dream begins with,
                ``(B, S, H, W, 3)`` or ``(B, S, 3, H, W)``, uint8 or float in [0, 1]. If an axis of
                past frames follows S, the last frame is used. The S copies are assumed to be equal.
            action_candidates: One-hot actions ``(B, S, T, block * K)`` as `CategoricalCEMSolver`
                makes them, with `block` consecutive actions at each position; or action indices
                of an integer dtype, ``(B, S, T)`` or ``(B, S, T, block)``.
        """
        actions = self._actions(action_candidates).to(self.device)
        frames = _first_frames(info_dict["pixels"]).to(self.device)
        batch, num = actions.shape[:2]
        seeds = torch.full((batch,), self.seed, device=self.device)
        no_actions = torch.zeros(batch, 0, dtype=torch.int64, device=self.device)
        start = self.model.start(frames[:, None], no_actions, seeds)
        env = torch.arange(batch, device=self.device).repeat_interleave(num)
        costs = [
            -self._returns(start.rows(part), chosen)
            for part, chosen in zip(
                env.split(self.max_rows), actions.flatten(0, 1).split(self.max_rows), strict=True
            )
        ]
        return torch.cat(costs).view(batch, num).to(action_candidates.device)

    def _returns(self, state: Any, actions: Tensor) -> Tensor:
        """Return the expected returns ``(R,)`` of R action sequences ``(R, T)``."""
        num_threads = torch.get_num_threads()
        step = divided(self.model.step, len(actions), num_threads, self.device)
        total = torch.zeros(len(actions), device=self.device)
        going = torch.ones_like(total)  # probability that the episode has not ended
        for action in actions.unbind(1):
            state, prediction = step(state, action.contiguous())
            total += going * prediction.reward.float()
            going *= self.discount * (1 - prediction.termination.float())
        return total

    def _actions(self, candidates: Tensor) -> Tensor:
        """Return action indices ``(B, S, T * block)``."""
        shape = tuple(candidates.shape)
        if candidates.is_floating_point():
            if candidates.ndim != 4 or candidates.shape[-1] % self.num_actions:
                raise ValueError(
                    f"expected one-hot candidates (B, S, T, block * {self.num_actions}), "
                    f"got {shape}"
                )
            return candidates.unflatten(-1, (-1, self.num_actions)).argmax(-1).flatten(2)
        if candidates.ndim not in (3, 4):
            raise ValueError(
                f"expected candidates (B, S, T) or (B, S, T, block) of action indices, got {shape}"
            )
        actions = candidates.flatten(2).to(torch.int64)
        if actions.numel() and not 0 <= actions.min() <= actions.max() < self.num_actions:
            raise ValueError(f"expected actions from 0 to {self.num_actions - 1}, got {actions}")
        return actions


_OPTIONS = ("discount", "seed", "max_rows")


def _first_frames(pixels: Any) -> Tensor:
    """Return the last frame of each env, uint8 ``(B, H, W, 3)``."""
    frames = torch.from_numpy(pixels) if isinstance(pixels, np.ndarray) else pixels
    if frames.ndim not in (5, 6) or 3 not in (frames.shape[-1], frames.shape[-3]):
        raise ValueError(
            "expected info['pixels'] (B, S, [frames,] H, W, 3) or (B, S, [frames,] 3, H, W), got "
            f"{tuple(frames.shape)}"
        )
    frames = frames[:, 0] if frames.ndim == 5 else frames[:, 0, -1]
    if frames.shape[-1] == 3:
        frames = frames.movedim(-1, -3)
    if not frames.is_floating_point():
        return frames.to(torch.uint8).movedim(-3, -1).contiguous()
    if not 0 <= frames.min() <= frames.max() <= 1:
        raise ValueError(
            "expected info['pixels'] of a float dtype in [0, 1], got values from "
            f"{frames.min():.3g} to {frames.max():.3g}: remove any normalisation"
        )
    return to_uint8(frames).contiguous()
