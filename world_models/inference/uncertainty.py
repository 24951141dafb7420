"""How uncertain a world model is about a frame: the reward of AutoExplore.

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

GIVEN, PREDICTED = 2, 3  # numbers of frames in the published reward, which scores the last frame
SHARE = 4  # only the most uncertain quarter of the tokens counts: most show predictable background


def frame_uncertainty(entropy: Tensor, num_codes: int) -> Tensor:
    """One number in [0, 2] per frame: mean 2H / ln K over the most uncertain quarter of tokens.

    H ``(..., N)`` is the entropy of each token's distribution in nats, K the number of codes.
    """
    count = max(1, entropy.shape[-1] // SHARE)
    most = entropy.float().topk(count, dim=-1).values
    return most.mean(-1) * (2 / math.log(num_codes))


@torch.no_grad()
def joint_entropy(model: WorldModel, frames: Tensor, actions: Tensor) -> Tensor:
    """Entropy ``(B, N)`` of the last frame when all future frames are predicted in one pass.

    Args:
        model: The world.
        frames: The given frames, uint8 ``(B, k, H, W, 3)``.
        actions: All actions up to the one that leads to the last frame, ``(B, T - 1)``.
    """
    tokens = model.tokenizer.encode(frames, num_prompt=frames.shape[1])
    dynamics, num_ahead = model.dynamics, actions.shape[1] + 1 - tokens.shape[1]
    masked = tokens.new_full((len(tokens), num_ahead, tokens.shape[2]), dynamics.space.mask_token)
    previous = model.previous_frames(tokens, frames, num_ahead)
    clip = Clip(torch.cat((tokens, masked), 1), actions, previous)
    return entropy(dynamics.objective.joint_logits(dynamics, clip, num_ahead=1)[:, 0])
