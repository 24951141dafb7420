"""Dreams beside other processes and threads, and the precision that they compute in."""

import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import ray
import torch

from genie_gym.envs.genie import GenieEnv, GenieVectorEnv
from world_models import precision
from world_models.inference import parallel
from world_models.inference.parallel import one_thread, step_in_parts

CPU = torch.device("cpu")


@pytest.mark.parametrize("num_threads", [2, 3])
def test_rows_on_several_threads_dream_the_same(world, num_threads):
    """Bit for bit, also when rows restart on the way."""
    num_rows = 13
    envs = [GenieVectorEnv(world.card.name, num_rows, num_threads=n) for n in (1, num_threads)]
    alone, together = (env.reset(seed=3)[0] for env in envs)
    assert np.array_equal(alone, together)
    rng = np.random.default_rng(0)
    for step in range(20):
        actions = rng.integers(7, size=num_rows)
        left, right = (env.step(actions) for env in envs)
        for one, other in zip(left[:4], right[:4], strict=True):
            assert np.array_equal(one, other)
        assert np.array_equal(left[4]["entropy"], right[4]["entropy"])
        if step == 9:
            mask = rng.random(num_rows) < 0.5
            assert mask.any()
            for env in envs:
                env.reset(options={"reset_mask": mask})


def test_parts_are_stepped_in_the_mode_of_the_caller(world):
    """Its tensors cannot be written outside of inference mode."""
    env = GenieVectorEnv(world.card.name, 8)
    with torch.inference_mode():
        env.reset(seed=0)
        state, _ = step_in_parts(env.model.step, 2, env._state, torch.zeros(8, dtype=torch.int64))
        assert state.seeds.is_inference()


def test_a_fault_on_a_thread_is_raised(world):
    env = GenieVectorEnv(world.card.name, 8, num_threads=2)
    env.reset(seed=0)

    def step(state, action):
        raise KeyError(len(state))

    before = torch.get_num_threads()
    with pytest.raises(KeyError, match="4"), one_thread():
        assert torch.get_num_threads() == 1
        step_in_parts(step, 2, env._state, torch.zeros(8))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("large", "expected"), [(0, 2), (10**12, 1)])
def test_the_operations_of_a_large_model_are_shared_by_threads(world, monkeypatch, large, expected):
    monkeypatch.setattr(parallel, "_LARGE", large)
    used = []
    with parallel.threads(2):
        torch.set_num_threads(2)
        env = GenieVectorEnv(world.card.name, 1)
        step = env._step_model
        monkeypatch.setattr(
            env, "_step_model", lambda *x: used.append(torch.get_num_threads()) or step(*x)
        )
        env.reset(seed=0)
        env.step([0])
        with one_thread():  # as in a forked child
            env.step([0])
    assert used == [expected, 1]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_worker_processes_dream_after_their_parent_has(coinrun_world, context):
    """Threads do not survive a fork: a forked worker once waited for ever for those of torch."""
    parent = GenieVectorEnv(coinrun_world, 16)
    parent.reset(seed=0)
    parent.step(np.zeros(16, np.int64))
    torch.randn(1000, 1000) @ torch.randn(1000, 1000)  # torch's own threads are running, too
    make = [partial(GenieEnv, coinrun_world)] * 2
    workers = gym.vector.AsyncVectorEnv(make, context=context)
    here = gym.vector.SyncVectorEnv(make)
    try:
        assert np.array_equal(workers.reset(seed=1)[0], here.reset(seed=1)[0])
        for action in (1, 3, 4):
            actions = np.full(2, action)
            theirs, ours = workers.step(actions), here.step(actions)
            assert np.array_equal(theirs[0], ours[0])
            assert np.array_equal(theirs[1], ours[1])
    finally:
        workers.close()


@pytest.mark.timeout(180)
def test_ray_actors_dream(coinrun_world):
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        actor = ray.remote(GenieVectorEnv).remote(coinrun_world, 8)
        here = GenieVectorEnv(coinrun_world, 8)
        assert np.array_equal(ray.get(actor.reset.remote(seed=2))[0], here.reset(seed=2)[0])
        actions = np.arange(8) % 7
        theirs, ours = ray.get(actor.step.remote(actions)), here.step(actions)
        assert np.array_equal(theirs[0], ours[0])
    finally:
        ray.shutdown()


def test_auto_takes_bfloat16_where_it_is_faster(monkeypatch):
    monkeypatch.setattr(precision, "_is_native", lambda device: True)
    for speedup, expected in ((2.0, torch.bfloat16), (1.0, torch.float32), (0.3, torch.float32)):
        monkeypatch.setattr(precision, "bfloat16_speedup", lambda device, s=speedup: s)
        assert precision.choose_dtype("auto", CPU) == expected
        assert precision.choose_dtype("float32", CPU) == torch.float32


def test_without_native_bfloat16_auto_is_float32_and_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(precision, "_is_native", lambda device: False)
    monkeypatch.delattr(precision, "bfloat16_speedup")
    assert precision.choose_dtype("auto", CPU) == torch.float32


def test_on_a_gpu_its_generation_decides_and_nothing_is_measured(monkeypatch):
    def refuse(device):
        raise AssertionError("measured")

    monkeypatch.setattr(precision, "bfloat16_speedup", refuse)
    for capability, expected in (((8, 0), torch.bfloat16), ((7, 5), torch.float32)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert precision.choose_dtype("auto", torch.device("cuda")) == expected


def test_a_choice_that_is_slow_here_warns_with_the_factor(monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda device: 0.25)
    with pytest.warns(UserWarning, match=r"bfloat16 is 4\.0 times as slow as float32"):
        assert precision.choose_dtype("bfloat16", CPU) == torch.bfloat16
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda device: 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        precision.choose_dtype("bfloat16", CPU)
    with pytest.raises(ValueError, match="must be"):
        precision.choose_dtype("fp8", CPU)


def test_the_speedup_is_measured_and_never_above_1_without_native_bfloat16(monkeypatch):
    precision.bfloat16_speedup.cache_clear()
    assert precision.bfloat16_speedup(CPU) > 0
    precision.bfloat16_speedup.cache_clear()
    monkeypatch.setattr(precision, "_is_native", lambda device: False)
    assert precision.bfloat16_speedup(CPU) <= 1
    precision.bfloat16_speedup.cache_clear()
