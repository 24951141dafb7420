"""RetroAct: the catalogue of retro games, and the ROMs on this machine."""

from genie_gym.retroact.catalogue import Game, game
from genie_gym.retroact.labels import Labels
from genie_gym.retroact.query import games

__all__ = ["Game", "Labels", "game", "games"]
