"""AutoExplore's rewards against slow, plainly written references on real CoinRun."""

import math
from functools import cache

import gymnasium as gym
import numpy as np
import pytest
import torch

import genie_gym  # noqa: F401
from genie_gym.envs.loaded_worlds import open_world
from genie_gym.wrappers import DynamicsEntropyVector, IntrinsicRewardVector, RandomNetworkMeter
from tests.tiny_world import LEVELS
from world_models.model.token_space import NO_ACTION

REAL = "Procgen/CoinRun-v0"
LEVEL = {
    "num_levels": int(LEVELS["num_levels"]),
    "distribution_mode": "easy",
    "use_backgrounds": False,
    "restrict_themes": True,
}
ROWS, STEPS, LONGEST = 4, 50, 14  # 200 real steps, over several episodes of each row


@pytest.fixture(autouse=True, scope="module")
def world(coinrun_world):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield open_world(coinrun_world, dtype="float32")
    torch.set_num_threads(before)


class Played:
    """The rewards of 200 real steps, and the episodes that each row had made up to then."""

    def __init__(self, mode: str, shown_actions=lambda actions: actions):
        env = gym.make_vec(
            REAL, num_envs=ROWS, autoreset_mode="SameStep", max_episode_steps=LONGEST, **LEVEL
        )
        self.rewards: list[float] = []
        self.pasts: list[tuple[list, list]] = []  # frames and actions since the episode began
        wrapped = DynamicsEntropyVector(_Disguised(env, shown_actions), "CoinRun", mode=mode)
        rng = np.random.default_rng(1)
        frames, _ = wrapped.reset(seed=3)
        pasts = [([frame], []) for frame in frames]
        for _ in range(STEPS):
            actions = rng.integers(7, size=ROWS)
            frames, rewards, terminated, truncated, infos = wrapped.step(shown_actions(actions))
            for row, (seen, done) in enumerate(pasts):
                over = (terminated | truncated)[row]
                seen.append(infos["final_obs"][row] if over else frames[row])
                done.append(int(actions[row]))
                self.rewards.append(float(rewards[row]))
                self.pasts.append((list(seen), list(done)))
                if over:
                    pasts[row] = ([frames[row]], [])
        wrapped.close()


@cache
def played(mode: str) -> Played:
    return Played(mode)


class _Disguised(gym.vector.VectorWrapper):
    """Plays other actions than it is told: `shown` undone."""

    def __init__(self, env, shown):
        super().__init__(env)
        self._real = np.argsort(shown(np.arange(7)))

    def step(self, actions):
        return self.env.step(self._real[actions])


def reference(world, logits) -> float:
    """2H / ln K of each token, and the mean of the quarter where it is largest, in plain Python."""
    uncertainties = []
    for token in logits.double().tolist():
        peak = max(token)
        weights = [math.exp(x - peak) for x in token]
        probabilities = [w / sum(weights) for w in weights]
        entropy = -sum(p * math.log(p) for p in probabilities if p > 0)
        uncertainties.append(2 * entropy / math.log(len(token)))
    largest = sorted(uncertainties)[-(len(uncertainties) // 4) :]
    return sum(largest) / len(largest)


@torch.no_grad()
def logits_of_last(world, frames: list, actions: list, num_masked: int):
    """The last frame's logits, the last few frames masked, with the whole past computed anew."""
    dynamics, tokenizer = world.model.dynamics, world.model.tokenizer
    given = torch.from_numpy(np.stack(frames[: len(frames) - num_masked]))[None]
    tokens = tokenizer.encode(given)
    masked = torch.full((1, num_masked, tokens.shape[2]), dynamics.space.mask_token)
    first = torch.tensor([[NO_ACTION, *actions]])
    x = dynamics.transformer(dynamics.embed(torch.cat((tokens, masked), 1), first))
    return dynamics.to_logits(x[0, -1])


def paper(world, frames: list, actions: list) -> float:
    if len(frames) < 5:
        return 0.0
    return reference(world, logits_of_last(world, frames[-5:], actions[-4:], num_masked=3))


def streaming(world, frames: list, actions: list) -> float:
    return reference(world, logits_of_last(world, frames, actions, num_masked=1))


REFERENCES = {"paper": paper, "streaming": streaming}


@pytest.mark.parametrize("mode", REFERENCES)
def test_200_real_steps_equal_the_slow_reference(world, mode):
    done = played(mode)
    expected = [REFERENCES[mode](world, *past) for past in done.pasts]
    assert len(expected) == 200
    assert np.abs(np.array(done.rewards) - expected).max() < 1e-4
    assert np.std(done.rewards) > 1e-3, "the rewards say nothing"
    assert sum(len(actions) == 1 for _, actions in done.pasts) > 2 * ROWS, "too few episodes"


@pytest.mark.parametrize("mode", REFERENCES)
def test_actions_are_those_that_led_to_the_frame(world, mode):
    """With actions one step early or late the reference is off: so the reward's are in place."""
    done = played(mode)
    moments = [k for k, (frames, _) in enumerate(done.pasts) if len(frames) >= 6][::5]
    for shift in (-1, 1):
        worst = 0.0
        for k in moments:
            frames, actions = done.pasts[k]
            shifted = [0, *actions[:-1]] if shift > 0 else [*actions[1:], 0]
            worst = max(worst, abs(REFERENCES[mode](world, frames, shifted) - done.rewards[k]))
        assert worst > 1e-3


def test_the_meter_is_told_the_actions_of_the_agent(world):
    """An env that permutes its actions: the same frames come, but are scored by other actions."""
    plain, told = played("streaming"), Played("streaming", lambda actions: (actions + 3) % 7)
    for (frames, _), (same, _) in zip(plain.pasts, told.pasts, strict=True):
        assert np.array_equal(frames[-1], same[-1])
    assert np.abs(np.array(plain.rewards) - told.rewards).max() > 1e-3


@torch.no_grad()
def test_surprise_is_how_unlikely_the_real_frame_was(world):
    done = Played("surprise")
    for reward, (frames, actions) in list(zip(done.rewards, done.pasts, strict=True))[::9]:
        logits = logits_of_last(world, frames, actions, num_masked=1).double().log_softmax(-1)
        came = world.model.tokenizer.encode(torch.from_numpy(np.stack(frames))[None])[0, -1]
        unlikely = sorted(-logits[range(len(came)), came].numpy() * 2 / math.log(logits.shape[1]))
        assert reward == pytest.approx(np.mean(unlikely[-(len(came) // 4) :]), abs=1e-4)


def test_nothing_is_scored_before_there_are_enough_frames():
    done = played("paper")
    for reward, (frames, _) in zip(done.rewards, done.pasts, strict=True):
        assert (reward == 0.0) == (len(frames) < 5)


def test_novelty_without_a_world_fades_for_what_is_seen_again():
    """One level again and again; then a level that was never seen."""
    env = gym.make_vec(REAL, num_envs=4, autoreset_mode="SameStep", num_levels=1, start_level=5)
    meter = RandomNetworkMeter(learning_rate=1e-3)
    wrapped = IntrinsicRewardVector(env, meter)
    wrapped.reset(seed=0)
    novelty = [wrapped.step(np.full(4, 0))[1].mean() for _ in range(150)]
    assert np.mean(novelty[-10:]) < 0.2 * np.mean(novelty[:10])
    other = gym.make_vec(REAL, num_envs=4, num_levels=1, start_level=77)
    frames, _ = other.reset(seed=0)
    known = novelty[-1]
    assert meter.score(np.arange(4), np.zeros(4), frames).mean() > 3 * known
