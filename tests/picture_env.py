"""A Gymnasium env of somebody else: a square on a board, seen from above."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

MOVES = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
CELLS, CELL = 4, 10


class PictureGame(gym.Env):
    """The square moves by one cell; the last cell is the goal, worth 1, and ends the episode."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, pictures: bool = True, render_mode: str | None = None):
        self.action_space = Discrete(5, start=1)
        shape = (CELLS * CELL, CELLS * CELL, 3)
        self.observation_space = Box(0, 255, shape, np.uint8) if pictures else Box(0, 9, (2,))
        self.pictures, self.render_mode = pictures, render_mode
        self.place = np.zeros(2, int)

    def get_action_meanings(self):
        return ["stay", "right", "left", "down", "up"]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.integers(CELLS - 1, size=2)
        return self._observation(), {}

    def step(self, action):
        self.place = np.clip(self.place + MOVES[action - 1], 0, CELLS - 1)
        won = bool((self.place == CELLS - 1).all())
        return self._observation(), float(won), won, False, {}

    def render(self):
        board = np.full((CELLS, CELLS, 3), 30, np.uint8)
        board[tuple(self.place)] = (250, 200, 60)
        return board.repeat(CELL, 0).repeat(CELL, 1)

    def _observation(self):
        return self.render() if self.pictures else self.place.astype(np.float32)


class Blind(PictureGame):
    """The same without pictures."""

    metadata = {"render_modes": []}

    def __init__(self):
        super().__init__(pictures=False)


class Unrendered(PictureGame):
    """The same with pictures as observations alone."""

    metadata = {"render_modes": []}


gym.register("Blind-v0", Blind)
gym.register("Unrendered-v0", Unrendered)
gym.register("PictureGame-v0", PictureGame, max_episode_steps=60)
