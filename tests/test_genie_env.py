"""The dream as an env: the contract of the real envs, and what only dreams do."""

import json
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import error

import genie_gym  # noqa: F401
from benchmarks.studies.dream_soak import soak
from genie_gym.retroact import catalogue
from tests.compiler import needs_compiler
from tests.env_contract import Case, EnvContract, actions_for
from world_models.inference.compile import CompiledWorld
from world_models.inference.world import WorldModel
from world_models.worlds.find import WorldNotFoundError

pytestmark = pytest.mark.usefixtures("world")

ID = "GenieRedux/CoinRun-v0"
CASES = (
    Case(env_id=ID, kwargs={"steps": 2}),
    Case(env_id=ID, kwargs={"steps": 3, "threshold": 0.9, "dtype": "bfloat16"}),
)


class TestDreams(EnvContract):
    @pytest.fixture(params=CASES, ids=["fixed", "threshold-bf16"])
    def case(self, request):
        return request.param


@pytest.mark.parametrize(("threads", "rows"), [(1, 33), (2, 6)])
def test_a_row_has_the_same_bits_in_any_company(threads, rows):
    """Alone, among others, after others were reset: frames, rewards, ends and infos are equal."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        many, one = gym.make_vec(ID, num_envs=rows, steps=2), gym.make_vec(ID, steps=2)
        many.reset(seed=0), one.reset(seed=5)
        others = np.arange(rows) != 5
        for step, actions in enumerate(actions_for(many.single_action_space, 4, rows)):
            if step == 2:
                many.reset(options={"reset_mask": others})
            left, right = many.step(actions), one.step(actions[5:6])
            for a, b in zip(left[:4], right[:4], strict=True):
                assert np.array_equal(a[5], b[0]), f"at step {step}"
            assert left[4]["entropy"][5] == right[4]["entropy"][0]
    finally:
        torch.set_num_threads(before)


@needs_compiler
def test_an_env_is_compiled_on_request_and_no_other():
    """That both dream the same is tested with smaller worlds, which compile sooner."""
    envs = [gym.make(ID, compile=compile) for compile in (True, False)]
    models = [env.unwrapped.vector_env.model for env in envs]
    assert [isinstance(model, CompiledWorld) for model in models] == [True, False]
    assert envs[1].unwrapped.world.card.name == "CoinRun"
    assert models[0].dynamics is models[1].dynamics
    assert "step" not in vars(models[1].dynamics), "the other env was compiled too"


def test_a_reset_of_some_rows_computes_these_alone(world, monkeypatch):
    begun, stepped = [], []
    start, step = WorldModel.start, WorldModel.step

    def counted_start(self, frames, *args, **options):
        begun.append(len(frames))
        return start(self, frames, *args, **options)

    def counted_step(self, state, action):
        stepped.append(len(action))
        return step(self, state, action)

    monkeypatch.setattr(WorldModel, "start", counted_start)
    monkeypatch.setattr(WorldModel, "step", counted_step)
    env = gym.make_vec(ID, num_envs=5, steps=1, max_episode_steps=3)
    env.reset(seed=0)
    env.reset(options={"reset_mask": np.array([False, True, False, True, False])})
    assert (begun, stepped) == ([5, 2], [])
    waiting = np.zeros(5, bool)
    for passes in range(1, 5):
        due = [int(waiting.sum())] if waiting.any() else []
        begun.clear()
        _, _, terminated, truncated, _ = env.step(np.zeros(5, int))
        waiting = terminated | truncated
        assert begun == due, "an ended row begins alone"
        assert sum(stepped) <= 5 * passes, "a step is one pass for all rows"


COLD_START = """
import gymnasium as gym, genie_gym
env = gym.make("GenieRedux/CoinRun-v0"); env.reset(seed=0); env.step(1)
import json, sys, time
print(json.dumps([time.process_time(), list(sys.modules)]))
"""


def test_a_cold_start_is_short():
    """Counted in processor time, so that what else the machine does is of no account."""
    seconds, modules = json.loads(
        subprocess.check_output([sys.executable, "-c", COLD_START], text=True)
    )
    assert seconds < 5
    needless = {"torch._dynamo", "lightning", "torchmetrics", "stable_baselines3", "cv2"}
    assert "torch" in modules and not needless & set(modules)


def test_tensors_are_the_same_frames_and_actions_may_be_tensors():
    kwargs = {"num_envs": 3, "max_episode_steps": 4, "autoreset_mode": "SameStep"}
    arrays = gym.make_vec(ID, render_mode="rgb_array", **kwargs)
    tensors = gym.make_vec(ID, output="torch", render_mode="rgb_array", **kwargs)
    expected, _ = arrays.reset(seed=0)
    frames, _ = tensors.reset(seed=0)
    assert isinstance(frames, torch.Tensor) and frames.dtype == torch.uint8
    for _ in range(6):
        kept = frames.clone()
        actions = torch.randint(7, (3,))
        later, *_, infos = tensors.step(actions)
        expected, *_, infos_expected = arrays.step(actions.numpy())
        assert torch.equal(frames, kept), "a frame handed out was written over"
        assert np.array_equal(later, expected)
        assert np.array_equal(tensors.render(), arrays.render())
        frames = later
        if "final_obs" in infos:
            for a, b in zip(infos["final_obs"], infos_expected["final_obs"], strict=True):
                assert isinstance(a, torch.Tensor) and np.array_equal(a, b)
    assert tensors.unwrapped.save_state() == arrays.unwrapped.save_state()


def test_one_copy_of_a_world_however_many_envs(world):
    one = gym.make(ID, steps=2, dtype="float32").unwrapped
    two = gym.make_vec(ID, num_envs=2, steps=5, dtype="float32").unwrapped
    assert one.vector_env.model.dynamics is two.model.dynamics is world.model.dynamics
    assert (one.vector_env.model.sampling.steps, two.model.sampling.steps) == (2, 5)
    assert world.model.sampling.steps == 4
    assert not any(p.requires_grad for p in world.model.parameters())


def test_wrong_arguments_say_what_is_right():
    for wrong, complaint in (
        ({"device": "abacus"}, "abacus"),
        ({"dtype": "int4"}, "bfloat16"),
        ({"steps": 0}, "at least 1"),
        ({"num_threads": 0}, "num_threads must be at least 1"),
        ({"temperature": -1.0}, "temperature"),
        ({"action_set": "retroact-5"}, "coinrun-7"),
    ):
        with pytest.raises(ValueError, match=complaint):
            gym.make(ID, **wrong)
    with pytest.raises(ValueError, match="numpy"):
        gym.make_vec(ID, num_envs=1, output="jax")


@pytest.mark.parametrize(
    ("env_id", "real"),
    [
        ("GenieRedux/SuperMarioBros-v0", "RetroAct/SuperMarioBros-Nes-v0"),
        ("GenieRedux/Pitfall-v0", "RetroAct/Pitfall-Atari2600-v0"),
    ],
)
def test_a_missing_world_says_where_it_looked_and_what_to_type(env_id, real, coinrun_world):
    with pytest.raises(WorldNotFoundError) as missing:
        gym.make(env_id)
    text = str(missing.value)
    for part in (f"genie-gym build {real}", str(coinrun_world.parent)):
        assert part in text
    with pytest.raises(WorldNotFoundError, match="Did you mean CoinRun"):
        gym.make(ID, world="CoinRum")
    with pytest.raises(error.NameNotFound, match="Did you mean: `SuperMarioBros`"):
        gym.make("GenieRedux/SuperMarioBross-v0")


def test_every_game_has_one_dream():
    dreams = [i.removeprefix("GenieRedux/")[:-3] for i in gym.registry if i.startswith("GenieRed")]
    others = {"CoinRun", "CoinRunOfficial"}
    assert len(catalogue.dreamed()) == len(catalogue.games())
    assert {"CoinRun", "SuperMarioBros", "Kangaroo", "AdventureIslandII"} <= set(dreams)
    assert others | set(catalogue.dreamed()) <= set(dreams)
    assert len({name.lower() for name in dreams}) == len(dreams), "folders that differ in case only"
    for name, game in catalogue.dreamed().items():
        assert name in (game.title, game.name)


def test_dreams_end_by_their_horizon_or_never():
    assert gym.spec(ID).max_episode_steps == 500
    env = gym.make_vec(ID, num_envs=2, max_episode_steps=3, steps=1)
    env.reset(seed=0)
    flags = [env.step(np.zeros(2, int))[2:4] for _ in range(3)]
    assert (flags[2][0] | flags[2][1]).all()
    assert gym.make_vec(ID, num_envs=2).unwrapped.max_episode_steps == 500
    for forever in (None, -1):
        assert gym.make_vec(ID, max_episode_steps=forever).unwrapped.max_episode_steps is None
    assert "TimeLimit" in str(gym.make(ID))
    assert "TimeLimit" not in str(gym.make(ID, max_episode_steps=-1))


def test_many_frames_with_random_resets():
    """The soak of the benchmarks, shortened: memory, numbers and looks stay as they are."""
    soaked = soak(gym.make_vec(ID, num_envs=16, steps=1, max_episode_steps=-1).unwrapped, 3_000)
    assert soaked.resets > 30
    assert soaked.not_finite == 0
    assert soaked.memory_growth() < 0.02
    assert (np.abs(soaked.drift()) < 0.5).all()


def test_a_person_can_watch(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame

    env = gym.make(ID, render_mode="human", steps=1)
    frame, _ = env.reset(seed=0)
    for action in (1, 1, 3):
        frame, *_ = env.step(action)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    scale = len(shown) // 64
    assert scale > 1 and np.array_equal(shown[::scale, ::scale], frame)
    assert env.render() is None
    env.close()


def test_frames_stay_alive_far_past_the_window():
    """Eight windows on, frames are still pictures: as contrasted as at first, and not frozen."""
    env = gym.make_vec(ID, num_envs=4, steps=1)
    frames, _ = env.reset(seed=0)
    contrast = frames.std(axis=(1, 2, 3)).mean()
    rng = np.random.default_rng(0)
    shown = [env.step(rng.integers(7, size=4))[0] for _ in range(64)]
    assert 0.5 < np.std(shown[-1], axis=(1, 2, 3)).mean() / contrast < 2
    assert any(not np.array_equal(a, b) for a, b in zip(shown[-8:], shown[-7:], strict=False))
