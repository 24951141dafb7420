"""Agents that learn in real and dreamed envs; the only layer that knows Stable-Baselines3.

Importing it makes ``RecurrentPPO("AutoExplorePolicy", env)`` known.
"""

from sb3_contrib import RecurrentPPO

from agents.autoexplore import AutoExplorePolicy

__all__ = ["AutoExplorePolicy"]

RecurrentPPO.policy_aliases["AutoExplorePolicy"] = AutoExplorePolicy
