"""Agents that learn in real and dreamed envs; the only layer that uses Stable-Baselines3.

Importing this package registers the policy of ``RecurrentPPO("AutoExplorePolicy", env)``.
"""

from sb3_contrib import RecurrentPPO

from agents.autoexplore import AutoExplorePolicy

__all__ = ["AutoExplorePolicy"]

RecurrentPPO.policy_aliases["AutoExplorePolicy"] = AutoExplorePolicy
