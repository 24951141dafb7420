"""Places are counted from the game's state: they follow what the player does."""

import gymnasium as gym
import numpy as np
import pytest

import genie_gym  # noqa: F401
from agents.evaluation import evaluate
from genie_gym.coverage import POSITION_BYTES, Coverage

LEVEL = {"num_levels": 1, "start_level": 13, "distribution_mode": "easy"}


def walked(env, action: int, steps: int) -> Coverage:
    coverage = Coverage(env.unwrapped)
    coverage.see(*env.reset(seed=0))
    for _ in range(steps):
        frames, _, _, _, infos = env.step(np.full(env.num_envs, action))
        coverage.see(frames, infos)
    return coverage


def test_walking_right_in_coinrun_visits_one_cell_after_the_other():
    env = gym.make_vec("Procgen/CoinRun-v0", num_envs=2, autoreset_mode="SameStep", **LEVEL)
    right = env.unwrapped.action_meanings.index("RIGHT")
    still = walked(env, env.unwrapped.action_meanings.index("NOOP"), 20)
    assert (len(still.places), still.finished) == (1, 0)
    coverage = walked(env, right, 12)
    columns = sorted(x for _, x, _ in coverage.places)
    assert columns == list(range(columns[0], columns[-1] + 1)) and len(columns) > 2
    assert list(coverage.furthest) == [13]
    assert coverage.furthest[13] == env.unwrapped.agent_positions()[:, 0].max() > 2.5


@pytest.mark.parametrize("autoreset", ["SameStep", "NextStep"])
def test_levels_finished_are_the_coins_taken(autoreset):
    env = gym.make_vec("Procgen/CoinRun-v0", num_envs=16, autoreset_mode=autoreset, **LEVEL)
    coverage, coins = Coverage(env.unwrapped), 0
    coverage.see(*env.reset(seed=0))
    rng = np.random.default_rng(0)
    actions = np.ones(16, int)
    for _ in range(400):
        actions = np.where(rng.random(16) < 0.2, rng.choice([1, 4], 16), actions)
        frames, rewards, _, _, infos = env.step(actions)
        coverage.see(frames, infos)
        coins += int((rewards == 10).sum())
    assert coverage.finished == coins > 0


class Runner:
    """Runs right and jumps at random."""

    def begin(self, row: int, rng: np.random.Generator) -> None:
        self.rng = rng

    def act(self, frames) -> np.ndarray:
        return self.rng.choice([1, 1, 4], len(frames))


def test_an_evaluation_counts_the_first_episode_of_each_row():
    env = gym.make_vec("Procgen/CoinRun-v0", num_envs=16, autoreset_mode="SameStep", **LEVEL)
    result = evaluate(env, Runner(), seed=0, max_steps=400)
    assert result.finished == round(result.env_return * 16 / 10) > 0
    coverage = Coverage(env.unwrapped)
    coverage.see(*env.reset(seed=0), np.zeros(16, bool))
    assert not coverage.places


@pytest.mark.parametrize("game", ["Hero", "Kangaroo"])
def test_the_byte_of_x_follows_right_and_left(game):
    env = gym.make_vec(f"RetroAct/{game}-Atari2600-v0", num_envs=1).unwrapped
    byte = POSITION_BYTES[f"{game}-Atari2600"][-2]
    env.reset(seed=0)
    moved = {"RIGHT": 0, "LEFT": 0}
    for _ in range(45):
        env.step(np.array([2]))  # the games begin with a tune
    for name in ("RIGHT", "LEFT"):
        before = int(env.memory()[byte])
        for _ in range(6):
            env.step(np.array([env.action_meanings.index(name)]))
        moved[name] = int(env.memory()[byte]) - before
    assert moved["RIGHT"] > 0 > moved["LEFT"]
    assert len(walked(env, 0, 80).places) > 1
    env.close()


def test_other_games_are_told_by_their_screens():
    env = gym.make_vec("RetroAct/Airstriker-Genesis-v0", num_envs=1)
    coverage = walked(env, 0, 60)
    assert 1 < len(coverage.places) <= 61
    first = env.reset(seed=0)[0]
    seen = len(coverage.places)
    coverage.see(first, {})
    assert len(coverage.places) == seen
    env.close()
