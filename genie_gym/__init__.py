"""Gymnasium environments for world models of games and for the real games.

Importing this package only registers the env ids; it imports neither torch nor an emulator.
"""

from genie_gym.registration import register_envs

__version__ = "1.0.0rc1"

register_envs()
