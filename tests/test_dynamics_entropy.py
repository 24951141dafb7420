"""The dynamics-entropy reward: the right number, for the right frame, in the right row."""

import inspect
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch

import genie_gym  # noqa: F401
from genie_gym.envs.coinrun import CoinRunVectorEnv
from genie_gym.envs.loaded_worlds import open_world
from genie_gym.envs.retro import RetroVectorEnv
from genie_gym.registration import LOOKS
from genie_gym.wrappers import DynamicsEntropy, DynamicsEntropyVector
from tests.tiny_world import LEVELS
from world_models.inference.uncertainty import frame_uncertainty, joint_entropy

REAL = "Procgen/CoinRun-v0"
LEVEL = {
    "num_levels": int(LEVELS["num_levels"]),
    "distribution_mode": "easy",
    "use_backgrounds": False,
    "restrict_themes": True,
}
NUM_CODES = 128


@pytest.fixture(autouse=True, scope="module")
def world(coinrun_world):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield open_world(coinrun_world, dtype="float32")
    torch.set_num_threads(before)


def real(**kwargs) -> gym.Env:
    return gym.make(REAL, **LEVEL, **kwargs)


def played(env: gym.Env, actions: list[int]) -> tuple[list, list, list]:
    """Frames, rewards and infos of an episode."""
    frames, rewards, infos = [env.reset(seed=0)[0]], [], []
    for action in actions:
        frame, reward, _, _, info = env.step(action)
        frames.append(frame), rewards.append(reward), infos.append(info)
    return frames, rewards, infos


ACTIONS = [1, 3, 1, 4, 0, 2, 1, 4]


def test_the_number_is_the_mean_over_the_most_uncertain_quarter():
    """Eight tokens, two of them undecided between all codes, six sure: the mean of the two is 2."""
    certain, open_ = 0.0, float(np.log(NUM_CODES))
    entropy = torch.tensor([[open_, *[certain] * 6, open_]])
    assert frame_uncertainty(entropy, NUM_CODES).item() == pytest.approx(2.0)
    half = torch.tensor([[open_ / 2, *[certain] * 7]])
    assert frame_uncertainty(half, NUM_CODES).item() == pytest.approx(0.5)
    assert frame_uncertainty(torch.zeros(3, 64), NUM_CODES).tolist() == [0, 0, 0]


def test_paper_mode_is_the_published_computation(world):
    """Frames c-4 and c-3 and the actions since are given; frame c is scored, from c = 4 on."""
    frames, rewards, infos = played(DynamicsEntropy(real(), world="CoinRun"), ACTIONS)
    assert rewards[:3] == [0.0, 0.0, 0.0]
    for c in range(4, len(frames)):
        given = torch.from_numpy(np.stack(frames[c - 4 : c - 2]))[None]
        actions = torch.tensor([ACTIONS[c - 4 : c]])
        model = world.model
        expected = frame_uncertainty(joint_entropy(model, given, actions), NUM_CODES).item()
        assert rewards[c - 1] == pytest.approx(expected, abs=1e-5), f"frame {c}"
        assert infos[c - 1]["dynamics_entropy"] == rewards[c - 1]
        imagined = model.imagine(given, actions, torch.zeros(1, dtype=torch.int64))
        assert frame_uncertainty(imagined.entropy[:, 2], NUM_CODES).item() == pytest.approx(
            expected, abs=1e-4
        )
    assert len(set(rewards[3:])) > 1


def test_streaming_mode_is_what_a_dream_expected(world):
    """The number of frame c is the entropy of the dream that starts from the frames before it."""
    env = DynamicsEntropy(real(), world="CoinRun", mode="streaming")
    frames, rewards, _ = played(env, ACTIONS)
    for c in range(1, len(frames)):
        given = torch.from_numpy(np.stack(frames[:c]))[None]
        state = world.model.start(given, torch.tensor([ACTIONS[: c - 1]], dtype=torch.int64))
        _, prediction = world.model.step(state, torch.tensor([ACTIONS[c - 1]]))
        expected = frame_uncertainty(prediction.entropy, NUM_CODES).item()
        assert rewards[c - 1] == pytest.approx(expected, abs=1e-4), f"frame {c}"


def test_the_envs_own_reward_is_kept_added_and_scaled():
    plain = played(real(), ACTIONS)[1]
    replaced = played(DynamicsEntropy(real(), world="CoinRun", mode="streaming"), ACTIONS)
    added = played(
        DynamicsEntropy(real(), world="CoinRun", mode="streaming", add=True, scale=3.0), ACTIONS
    )
    assert [info["env_reward"] for info in replaced[2]] == plain
    for own, score, total in zip(plain, replaced[1], added[1], strict=True):
        assert total == pytest.approx(own + 3 * score)


@pytest.mark.parametrize("mode", ["paper", "streaming"])
@pytest.mark.parametrize("autoreset", ["NextStep", "SameStep", "Disabled"])
def test_rows_do_not_leak_into_each_other(mode, autoreset):
    """Each row of a vector env scores as its episode would alone, over several episodes."""
    kwargs = {**LEVEL, "max_episode_steps": 7}
    vector = gym.make_vec(REAL, num_envs=3, autoreset_mode=autoreset, **kwargs)
    rows = DynamicsEntropyVector(vector, world="CoinRun", mode=mode)
    singles = [DynamicsEntropy(real(max_episode_steps=7), "CoinRun", mode=mode) for _ in range(3)]
    rows.reset(seed=5)
    for row, single in enumerate(singles):
        single.reset(seed=5 + row)
    over = np.zeros(3, bool)
    rng = np.random.default_rng(0)
    checked = 0
    for _ in range(20):
        if autoreset == "Disabled" and over.any():
            rows.reset(options={"reset_mask": over})
            [singles[row].reset() for row in np.flatnonzero(over)]
            over[:] = False
        actions = rng.integers(7, size=3)
        _, rewards, terminated, truncated, infos = rows.step(actions)
        for row, single in enumerate(singles):
            if autoreset == "NextStep" and over[row]:
                single.reset()
                assert rewards[row] == 0 and not infos["_dynamics_entropy"][row]
                continue
            expected = single.step(int(actions[row]))[1]
            assert rewards[row] == pytest.approx(expected, abs=1e-5)
            where = infos
            if autoreset == "SameStep" and (terminated | truncated)[row]:
                where = infos["final_info"]
                single.reset()
            assert where["_env_reward"][row]
            assert where["dynamics_entropy"][row] == rewards[row]
            checked += 1
        over = terminated | truncated
    assert checked > 40


def test_one_pass_of_the_world_for_all_rows(world, monkeypatch):
    vector = gym.make_vec(REAL, num_envs=5, **LEVEL)
    rows = DynamicsEntropyVector(vector, world="CoinRun", mode="streaming")
    rows.reset(seed=0)
    passes = []
    forward = type(world.model).observe

    def counted(self, state, actions, frames):
        passes.append(len(frames))
        return forward(self, state, actions, frames)

    monkeypatch.setattr(type(world.model), "observe", counted)
    for _ in range(3):
        rows.step(np.ones(5, int))
    assert passes == [5, 5, 5]


def test_dreams_can_be_explored_too():
    dream = gym.make_vec("GenieRedux/CoinRun-v0", num_envs=2, output="torch")
    rows = DynamicsEntropyVector(dream, world="CoinRun")
    rows.reset(seed=0)
    for _ in range(4):
        _, rewards, *_ = rows.step(torch.tensor([1, 4]))
    assert rewards.shape == (2,) and (rewards > 0).all()


def test_wrong_worlds_and_modes_are_refused():
    with pytest.raises(ValueError, match="streaming"):
        DynamicsEntropy(real(), world="CoinRun", mode="fast")
    with pytest.raises(ValueError, match="coinrun-7"):
        DynamicsEntropy(gym.make("RetroAct/Airstriker-Genesis-v0"), world="CoinRun")


def test_a_game_drawn_otherwise_than_the_world_knows_it_is_refused(coinrun_world, tmp_path):
    mapped = shutil.copytree(coinrun_world, tmp_path / "Mapped")
    card = json.loads((mapped / "world.json").read_text())
    card["env_kwargs"]["velocity_map"] = True
    card.pop("checksum", None)  # a world that an earlier version has made has none
    (mapped / "world.json").write_text(json.dumps(card))
    DynamicsEntropy(real(velocity_map=True), mapped)
    with pytest.raises(ValueError, match="make the env with velocity_map=True"):
        DynamicsEntropy(real(), mapped)
    with pytest.raises(ValueError, match="make the env with velocity_map=True"):
        DynamicsEntropyVector(gym.make_vec(REAL, num_envs=2), mapped)
    with pytest.raises(ValueError, match="make the env with velocity_map=False"):
        DynamicsEntropy(real(velocity_map=True), coinrun_world)


def test_the_looks_have_the_defaults_of_the_envs():
    found = {
        name: parameter.default
        for env in (CoinRunVectorEnv, RetroVectorEnv)
        for name, parameter in inspect.signature(env).parameters.items()
        if name in LOOKS
    }
    assert found == LOOKS


def test_a_wrapped_env_can_be_made_again_from_its_spec():
    env = DynamicsEntropy(real(), world="CoinRun", mode="streaming")
    again = gym.make(env.spec)
    assert isinstance(again, DynamicsEntropy) and again.meter.mode == "streaming"
    assert played(env, ACTIONS[:3])[1] == played(again, ACTIONS[:3])[1]
