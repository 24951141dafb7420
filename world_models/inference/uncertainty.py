"""How unsure a world model is of a frame: the number that AutoExplore is rewarded with.

Shapes: B batch, T frames, N tokens per frame, K codes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from world_models.sampling import entropy
from world_models.world import WorldModel

__all__ = ["GIVEN", "PREDICTED", "frame_uncertainty", "joint_entropy"]

GIVEN, PREDICTED = 2, 3  # frames of the published reward, which scores the last one
SHARE = 4  # one in so many tokens counts: most show a background that is never in doubt


def frame_uncertainty(entropy: Tensor, num_codes: int) -> Tensor:
    """One number in [0, 2] per frame: the mean of 2H / ln K over the most uncertain quarter.

    Args:
        entropy: H of each token's distribution in nats, ``(..., N)``.
        num_codes: K.
    """
    count = max(1, entropy.shape[-1] // SHARE)
    most = entropy.float().topk(count, dim=-1).values
    return most.mean(-1) * (2 / math.log(num_codes))


@torch.no_grad()
def joint_entropy(model: WorldModel, frames: Tensor, actions: Tensor) -> Tensor:
    """Entropy ``(B, N)`` of the last frame when all frames to come are predicted in one pass.

    Args:
        model: The world.
        frames: Those given, uint8 ``(B, k, H, W, 3)``.
        actions: ``(B, T - 1)``: all of them, up to the one that leads to the last frame.
    """
    tokens = model.tokenizer.encode(frames, given=frames.shape[1])
    dynamics, num_hidden = model.dynamics, actions.shape[1] + 1 - tokens.shape[1]
    hidden = tokens.new_full((len(tokens), num_hidden, tokens.shape[2]), dynamics.mask_token)
    sequence = torch.cat((tokens, hidden), 1)  # (B, T, N)
    if dynamics.config.objective == "paper":
        x = dynamics.predict_shifted(sequence[:, :-1], actions)
    else:
        before = model.before(tokens, frames, num_hidden)
        x = dynamics.predict_plain(sequence, actions, before)
    return entropy(dynamics.to_logits(x[:, -1]))
