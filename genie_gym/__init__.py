"""Learned simulators of games as Gymnasium environments, beside the real games.

Importing this package registers the env ids and does nothing else: no torch, no emulator.
"""

from genie_gym.registration import register_envs

__version__ = "0.1.0"

register_envs()
