"""Agents that learn in real games and in dreams; the only layer that uses Stable-Baselines3.

Importing this package registers the policy for ``RecurrentPPO("AutoExplorePolicy", env)``.
"""

import contextlib
import importlib

with contextlib.suppress(ImportError):
    # If the old package `gym` is installed, Stable-Baselines3 imports it, and `gym` prints a
    # deprecation notice. procgen2 installs `gym`; this project does not use it.
    importlib.import_module("gym_notices.notices").notices.clear()

from sb3_contrib import RecurrentPPO  # noqa: E402

from agents.autoexplore import AutoExplorePolicy  # noqa: E402

__all__ = ["AutoExplorePolicy"]

RecurrentPPO.policy_aliases["AutoExplorePolicy"] = AutoExplorePolicy
