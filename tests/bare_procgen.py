"""Bare procgen, played beside our CoinRun, and the actions that both are given."""

from importlib.util import find_spec

import numpy as np
import pytest
from gymnasium.utils import seeding

from genie_gym.actions import action_set, procgen_actions
from genie_gym.envs import procgen_rows

needs_procgen = pytest.mark.skipif(
    find_spec("procgen") is None, reason="procgen2 is built for CPython 3.11 on Linux x86-64 only"
)

MOVES = np.array(procgen_actions(action_set("coinrun-7")), np.int32)


def going_right(rng, shape):
    """Actions that get somewhere: to coins, enemies, saws and lava within a hundred steps."""
    return rng.choice(7, size=shape, p=[0.05, 0.4, 0.05, 0.1, 0.3, 0.05, 0.05])


class BareRows:
    """Bare procgen games with the levels that the rows of our env draw from their seeds."""

    def __init__(self, seeds, **options):
        make = procgen_rows.load_procgen().ProcgenGym3Env
        draws = [int(seeding.np_random(seed)[0].integers(2**31 - 1)) for seed in seeds]
        self.games = [
            make(num=1, env_name="coinrun", num_threads=0, rand_seed=draw, **options)
            for draw in draws
        ]

    def step(self, actions):
        for game, action in zip(self.games, actions, strict=True):
            game.act(MOVES[[action]])
        return self.observe()

    def observe(self):
        rewards, shown, first = zip(*(game.observe() for game in self.games), strict=True)
        frames = np.concatenate([each["rgb"] for each in shown])
        return frames, np.concatenate(rewards), np.concatenate(first)

    def restart(self):
        for game in self.games:
            game.act(np.array([-1], np.int32))

    def levels(self):
        return [game.get_info()[0]["prev_level_seed"] for game in self.games]
