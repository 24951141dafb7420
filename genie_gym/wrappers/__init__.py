"""Wrappers for real games and world models: intrinsic rewards and stacked frames."""

from genie_gym.wrappers.dynamics_entropy import DynamicsEntropy, DynamicsEntropyVector
from genie_gym.wrappers.intrinsic import IntrinsicRewardVector
from genie_gym.wrappers.random_network import RandomNetworkMeter
from genie_gym.wrappers.stack import StackFramesVector

__all__ = [
    "DynamicsEntropy",
    "DynamicsEntropyVector",
    "IntrinsicRewardVector",
    "RandomNetworkMeter",
    "StackFramesVector",
]
