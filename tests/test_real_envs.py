"""The contract over the real games, and odd sequences of calls thrown at two of them."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import error
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

import genie_gym  # noqa: F401
from tests.env_contract import Case, EnvContract
from tests.malformed_calls import MalformedCalls

CASES = (
    Case(env_id="Procgen/CoinRun-v0"),
    Case(env_id="RetroAct/Airstriker-Genesis-v0"),
    Case(env_id="RetroAct/Kangaroo-Atari2600-v0"),
    Case(env_id="RetroAct/Pong-Atari2600-v0", kwargs={"action_set": "retroact-7"}),
    Case(env_id="RetroAct/MontezumaRevenge-Atari2600-v0"),
)


class TestRealEnvs(EnvContract):
    @pytest.fixture(params=CASES, ids=lambda case: case.env_id.split("/")[1])
    def case(self, request):
        return request.param


class OddCalls(MalformedCalls):
    """Any order of calls: the env agrees with a twin that was told the same by other means.

    The twin is always brought to the same point by loading the last saved state and replaying
    the actions since, so what the env shows is checked at each step.
    """

    env_id: str

    def __init__(self):
        super().__init__()
        self.env = gym.make(self.env_id).unwrapped
        self.twin = gym.make(self.env_id).unwrapped
        self.state = None
        self.since: list[int] = []
        self.ended = False

    @initialize(seed=st.integers(0, 2**31 - 1))
    def begin(self, seed):
        with pytest.raises(error.ResetNeeded):
            self.env.step(0)
        self.env.reset(seed=seed)
        self.save()

    @rule(action=st.integers(0, 4))
    def step(self, action):
        if self.ended:
            with pytest.raises(error.ResetNeeded):
                self.env.step(action)
            return
        frame, _, terminated, truncated, _ = self.env.step(action)
        assert frame.shape == (64, 64, 3)
        self.ended = terminated or truncated
        self.since.append(action)

    @rule(seed=st.none() | st.integers(0, 99))
    def reset(self, seed):
        self.env.reset(seed=seed)
        self.ended = False
        self.save()

    @rule()
    def save(self):
        self.state, self.since, self.saved_end = self.env.save_state(), [], self.ended

    @rule()
    def load(self):
        self.env.load_state(self.state)
        self.since, self.ended = [], self.saved_end

    @precondition(lambda self: self.state is not None)
    @rule()
    def twin_agrees(self):
        shown = self.twin.load_state(self.state)
        for action in self.since:
            shown, *_ = self.twin.step(action)
        assert np.array_equal(shown, self.env.vector_env.frames[0])

    def teardown(self):
        self.env.close()
        self.twin.close()


@pytest.mark.parametrize(
    ("env_id", "examples"),
    [("Procgen/CoinRun-v0", 40), ("RetroAct/Kangaroo-Atari2600-v0", 8)],
)
def test_odd_sequences_of_calls(env_id, examples):
    machine = type("OddCallsOf", (OddCalls,), {"env_id": env_id})
    machine.TestCase.settings = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    machine.TestCase("runTest").runTest()


def test_unknown_ids_name_near_ones():
    with pytest.raises(error.NameNotFound, match="SuperMarioBros-Nes"):
        gym.make("RetroAct/SuperMarioBro-Nes-v0")
    with pytest.raises(error.NameNotFound, match="CoinRun"):
        gym.make("Procgen/Coinrun-v0")


def test_both_spellings_of_an_id_work():
    env = gym.make("genie_gym:Procgen/CoinRun-v0")
    assert env.reset(seed=0)[0].shape == (64, 64, 3)
    env.close()
