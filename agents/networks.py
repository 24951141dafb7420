"""Feature extractors for Stable-Baselines3 policies on 64x64 frames, by name."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticCnnPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN
from torch import nn

__all__ = [
    "FEATURES",
    "ChannelsLastCnnPolicy",
    "HalfNatureCNN",
    "ImpalaCNN",
    "NormalizedCNN",
    "SmallCNN",
]


class ChannelsLastCnnPolicy(ActorCriticCnnPolicy):
    """`CnnPolicy` with frames in channels-last format, which is faster on a CPU."""

    def extract_features(self, obs: Any, features_extractor: Any = None) -> Any:
        """Maps uint8 frames ``(B, C, H, W)`` to features."""
        frames = obs.contiguous(memory_format=torch.channels_last)
        return super().extract_features(frames, features_extractor)


class ImpalaCNN(BaseFeaturesExtractor):
    """IMPALA's residual network, which Procgen's authors use.

    Args:
        observation_space: Space of uint8 frames ``(C, H, W)``; Stable-Baselines3 scales the pixels
            to [0, 1].
        features_dim: Number of output features.
        channels: Output channels of each stage; every stage halves height and width.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        features_dim: int = 256,
        channels: tuple[int, ...] = (16, 32, 32),
    ):
        super().__init__(observation_space, features_dim)
        stages: list[nn.Module] = []
        width, height, _ = observation_space.shape[0], *observation_space.shape[1:]
        for out in channels:
            stages += [
                nn.Conv2d(width, out, 3, padding=1),
                nn.MaxPool2d(3, stride=2, padding=1),
                _Residual(out),
                _Residual(out),
            ]
            width, height = out, (height + 1) // 2
        self.body = nn.Sequential(*stages, nn.ReLU(), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(width * height * height, features_dim), nn.ReLU())

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Maps frames ``(B, C, H, W)`` to features ``(B, features_dim)``."""
        return self.head(self.body(observations))


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.convolutions(x)


class SmallCNN(BaseFeaturesExtractor):
    """The four convolutions of the AutoExplore agent, each followed by 2x2 max pooling.

    Args:
        observation_space: Space of uint8 frames ``(C, H, W)``; Stable-Baselines3 scales the pixels
            to [0, 1].
        channels: Output channels of the convolutions. By default 64x64 pixels become 4x4x64
            features.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        channels: tuple[int, ...] = (32, 32, 64, 64),
    ):
        width, height, breadth = observation_space.shape
        shrunk = 2 ** len(channels)
        super().__init__(observation_space, channels[-1] * (height // shrunk) * (breadth // shrunk))
        layers: list[nn.Module] = []
        for out in channels:
            layers += [nn.Conv2d(width, out, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
            width = out
        self.body = nn.Sequential(*layers, nn.Flatten())

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Maps frames ``(B, C, H, W)`` to features ``(B, features)``."""
        pixels = 2 * observations - 1
        return self.body(pixels.contiguous(memory_format=torch.channels_last))  # twice as fast


class HalfNatureCNN(BaseFeaturesExtractor):
    """The convolutions of `NatureCNN` with half the channels, at a third of the cost.

    Args:
        observation_space: Space of uint8 frames ``(C, H, W)``; Stable-Baselines3 scales the pixels
            to [0, 1].
        features_dim: Number of output features.
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int = 256):
        super().__init__(observation_space, features_dim)
        self.body = nn.Sequential(
            nn.Conv2d(observation_space.shape[0], 16, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            width = self.body(torch.zeros(1, *observation_space.shape)).shape[1]
        self.head = nn.Sequential(nn.Linear(width, features_dim), nn.ReLU())

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Maps frames ``(B, C, H, W)`` to features ``(B, features_dim)``."""
        return self.head(self.body(observations))


class NormalizedCNN(HalfNatureCNN):
    """`HalfNatureCNN` on normalized frames: the mean frame becomes 0, and the deviation from it 1.

    A small sprite on a large background, such as Pong's ball, otherwise hardly changes the
    features of an untrained network. The mean and the standard deviation are those of the first
    minibatches of training.

    Args:
        observation_space: Space of uint8 frames ``(C, H, W)``; Stable-Baselines3 scales the pixels
            to [0, 1].
        features_dim: Number of output features.
        num_batches: Number of these minibatches.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    seen: torch.Tensor

    def __init__(
        self, observation_space: spaces.Box, features_dim: int = 256, num_batches: int = 1000
    ):
        super().__init__(observation_space, features_dim)
        self.num_batches = num_batches
        self.register_buffer("mean", torch.zeros(observation_space.shape))
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Maps frames ``(B, C, H, W)`` to features ``(B, features_dim)``."""
        if self.training and self.seen < self.num_batches:
            self._update(observations)
        deviation = self.variance.sqrt() + 1e-3
        return super().forward((observations - self.mean) / deviation)

    @torch.no_grad()
    def _update(self, observations: torch.Tensor) -> None:
        self.seen += 1
        self.mean += (observations.mean(0) - self.mean) / self.seen
        self.variance += ((observations - self.mean).square().mean() - self.variance) / self.seen


FEATURES: dict[str, type[BaseFeaturesExtractor]] = {
    "nature": NatureCNN,
    "half-nature": HalfNatureCNN,
    "normalized": NormalizedCNN,
    "impala": ImpalaCNN,
    "small": SmallCNN,
}
