"""Wrappers that give real games and learned worlds intrinsic rewards."""

from genie_gym.wrappers.dynamics_entropy import DynamicsEntropy, DynamicsEntropyVector
from genie_gym.wrappers.intrinsic import IntrinsicRewardVector
from genie_gym.wrappers.random_network import RandomNetworkMeter

__all__ = [
    "DynamicsEntropy",
    "DynamicsEntropyVector",
    "IntrinsicRewardVector",
    "RandomNetworkMeter",
]
