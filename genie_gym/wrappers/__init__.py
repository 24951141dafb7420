"""Wrappers around real and dreamed envs."""

from genie_gym.wrappers.dynamics_entropy import DynamicsEntropy, DynamicsEntropyVector

__all__ = ["DynamicsEntropy", "DynamicsEntropyVector"]
