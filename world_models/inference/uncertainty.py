"""Measures how uncertain a world model is about a frame, which is the reward in AutoExplore.

Shapes: B batch, T frames, N tokens per frame, K codes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from world_models.inference.sampling import entropy
from world_models.inference.world import WorldModel
from world_models.model.token_space import Clip

__all__ = ["GIVEN", "PREDICTED", "frame_uncertainty", "joint_entropy"]

# Numbers of given and of predicted frames in the published reward, which scores the last frame.
GIVEN, PREDICTED = 2, 3
SHARE = 4  # only the most uncertain quarter of the tokens counts: most show predictable background


def frame_uncertainty(entropy: Tensor, num_codes: int) -> Tensor:
    """Return one number in [0, 2] per frame: the mean of 2H / ln K over its most uncertain tokens.

    H is the entropy of a token's distribution in nats, given as `entropy` ``(..., N)``, and K is
    the number of codes. The mean is over the most uncertain quarter of the frame's tokens.
    """
    count = max(1, entropy.shape[-1] // SHARE)
    most = entropy.float().topk(count, dim=-1).values
    return most.mean(-1) * (2 / math.log(num_codes))


@torch.no_grad()
def joint_entropy(model: WorldModel, frames: Tensor, actions: Tensor) -> Tensor:
    """Return the entropy ``(B, N)`` of each token of the last frame.

    All frames after the given ones are predicted in one pass.

    Args:
        model: The world model.
        frames: The given frames, uint8 ``(B, k, H, W, 3)``.
        actions: All actions up to the one that leads to the last frame, ``(B, T - 1)``.
    """
    tokens = model.tokenizer.encode(frames, num_prompt=frames.shape[1])
    dynamics, num_ahead = model.dynamics, actions.shape[1] + 1 - tokens.shape[1]
    masked = tokens.new_full((len(tokens), num_ahead, tokens.shape[2]), dynamics.space.mask_token)
    previous = model.previous_frames(tokens, frames, num_ahead)
    clip = Clip(torch.cat((tokens, masked), 1), actions, previous)
    return entropy(dynamics.objective.joint_logits(dynamics, clip, num_ahead=1)[:, 0])
