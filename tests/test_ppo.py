"""PPO as all agents use it."""

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from agents.ppo import ChannelsLastRolloutBuffer

FRAMES, ACTIONS = spaces.Box(0, 255, (6, 64, 64), np.uint8), spaces.Discrete(3)


def minibatches(kind):
    """The minibatches of two rollouts with known frames, as `VecTransposeImage` returns them."""
    rng = np.random.default_rng(0)
    buffer = kind(8, FRAMES, ACTIONS, "cpu", n_envs=4)
    np.random.seed(0)
    for _ in range(2):
        buffer.reset()
        for step in range(8):
            frames = np.moveaxis(rng.integers(0, 256, (4, 64, 64, 6), np.uint8), -1, 1)
            number = torch.full((4,), float(step))
            buffer.add(frames, rng.integers(3, size=4), rng.random(4), np.zeros(4), number, number)
        buffer.compute_returns_and_advantage(torch.zeros(4), np.zeros(4))
        yield from buffer.get(10)


def test_frames_in_channels_last_format_are_the_frames_of_the_usual_buffer():
    usual, ours = map(list, map(minibatches, (RolloutBuffer, ChannelsLastRolloutBuffer)))
    assert len(usual) == len(ours) == 8
    for one, other in zip(usual, ours, strict=True):
        assert all(map(torch.equal, one, other))
        assert other.observations.is_contiguous(memory_format=torch.channels_last)
