"""Where a dream goes on from: given frames, the bank of beginnings, saved states, in any order."""

import hashlib
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import error
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

import genie_gym  # noqa: F401
from tests.malformed_calls import MalformedCalls

pytestmark = pytest.mark.usefixtures("world")

ID = "GenieRedux/CoinRun-v0"


def real_prompt(world, num_frames: int = 3) -> dict:
    starts = world.starts
    return {
        "frames": starts.frames[0, :num_frames].numpy(),
        "actions": starts.actions[0, : num_frames - 1].numpy(),
    }


def test_given_frames_begin_the_dream(world):
    env = gym.make(ID)
    prompt = real_prompt(world)
    frame, info = env.reset(seed=1, options=prompt)
    assert np.array_equal(frame, prompt["frames"][-1])
    assert info == {"entropy": 0.0}
    first = [env.step(a)[0] for a in (1, 1, 3)]
    env.reset(seed=1, options=prompt)
    assert np.array_equal(first, [env.step(a)[0] for a in (1, 1, 3)])
    env.reset(seed=2)
    assert not np.array_equal(first, [env.step(a)[0] for a in (1, 1, 3)])
    single_frame = {"frames": prompt["frames"][:1]}
    assert np.array_equal(env.reset(options=single_frame)[0], prompt["frames"][0])


def test_prompts_by_row_and_for_some_rows_only(world):
    env = gym.make_vec(ID, num_envs=3)
    starts = world.starts
    options = {"frames": starts.frames[:3].numpy(), "actions": starts.actions[:3].numpy()}
    frames, _ = env.reset(seed=0, options=options)
    assert np.array_equal(frames, starts.frames[:3, -1])
    mask = np.array([False, True, False])
    changed, infos = env.reset(options={**real_prompt(world), "reset_mask": mask})
    assert np.array_equal(changed[[0, 2]], frames[[0, 2]])
    assert np.array_equal(changed[1], real_prompt(world)["frames"][-1])
    assert infos["_entropy"].tolist() == mask.tolist()


def test_beginnings_come_from_the_bank_by_seed(world):
    env = gym.make(ID)
    bank = {frame.tobytes() for frame in world.starts.frames[:, -1].numpy()}
    seen = [env.reset(seed=seed)[0].tobytes() for seed in range(12)]
    assert set(seen) <= bank and len(set(seen)) > 3
    assert seen == [env.reset(seed=seed)[0].tobytes() for seed in range(12)]


BAD_PROMPTS = {
    "float": (lambda p: {**p, "frames": p["frames"] / 255}, "uint8"),
    "nan": (lambda p: {**p, "frames": p["frames"] * np.nan}, "uint8"),
    "size": (lambda p: {**p, "frames": p["frames"][:, :32]}, "shape"),
    "no frames": (lambda p: {**p, "frames": p["frames"][:0]}, "at least 1"),
    "not an array": (lambda p: {**p, "frames": "frames"}, "uint8"),
    "rows": (lambda p: {**p, "frames": np.stack([p["frames"]] * 5)}, "shape"),
    "too many actions": (lambda p: {**p, "actions": [0, 1, 2]}, "2 actions"),
    "actions missing": (lambda p: {"frames": p["frames"]}, r"2 actions.*frames\[:, None\]"),
    "frames missing": (lambda p: {"actions": p["actions"]}, "frames"),
    "negative": (lambda p: {**p, "actions": [0, -1]}, "from 0 to 6"),
    "too large": (lambda p: {**p, "actions": [0, 7]}, "from 0 to 6"),
    "nan action": (lambda p: {**p, "actions": [0, np.nan]}, "integers"),
    "unknown": (lambda p: {**p, "prompt": 1}, "prompt"),
}


class OddDreams(MalformedCalls):
    """Any order of calls, right and wrong: a twin that only hears the right ones stays equal."""

    def __init__(self):
        super().__init__()
        self.env = gym.make(ID, steps=1).unwrapped
        self.twin = gym.make(ID, steps=1).unwrapped
        self.prompt = real_prompt(self.env.vector_env.world)
        self.state = None
        self.ended = False

    @initialize(seed=st.integers(0, 9))
    def begin(self, seed):
        with pytest.raises(error.ResetNeeded):
            self.env.step(0)
        self.both(lambda env: env.reset(seed=seed)[0])

    def both(self, call):
        mine, other = call(self.env), call(self.twin)
        assert np.array_equal(mine, other) and mine.shape == (64, 64, 3)

    @rule(action=st.integers(0, 6))
    def step(self, action):
        if self.ended:
            with pytest.raises(error.ResetNeeded):
                self.env.step(action)
            return
        ends = []

        def call(env):
            frame, reward, terminated, _, info = env.step(action)
            assert np.isfinite(reward) and 0 <= info["entropy"] <= 2
            ends.append(terminated)
            return frame

        self.both(call)
        assert ends[0] == ends[1]
        self.ended = ends[0]

    @rule(seed=st.none() | st.integers(0, 9), given=st.booleans())
    def reset(self, seed, given):
        options = self.prompt if given else None
        self.both(lambda env: env.reset(seed=seed, options=options)[0])
        self.ended = False

    @rule()
    def save(self):
        self.state, self.saved_end = self.env.save_state(), self.ended
        assert self.state == self.twin.save_state()

    @rule()
    def load(self):
        if self.state is not None:
            self.both(lambda env: env.load_state(self.state))
            self.ended = self.saved_end

    @rule(name=st.sampled_from(sorted(BAD_PROMPTS)), seed=st.none() | st.integers(0, 9))
    def bad_prompt(self, name, seed):
        # A seed in a refused call is taken by Gymnasium before anything else: give it to both.
        spoil, complaint = BAD_PROMPTS[name]
        for env in (self.env, self.twin):
            with pytest.raises(ValueError, match=complaint):
                env.reset(seed=seed, options=spoil(self.prompt))

    @rule()
    def close_and_begin_again(self):
        if self.state is None:
            return
        self.env.close()
        with pytest.raises(error.ClosedEnvironmentError):
            self.env.step(0)
        self.env = gym.make(ID, steps=1).unwrapped
        self.load()

    def teardown(self):
        self.env.close(), self.twin.close()


def test_odd_sequences_of_calls():
    OddDreams.TestCase.settings = settings(
        max_examples=8,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    OddDreams.TestCase("runTest").runTest()


def digest(env: gym.Env) -> str:
    """Of all that an env tells over the next steps."""
    told = hashlib.sha256()
    for action in (1, 4, 0, 3, 1, 1):
        frame, reward, terminated, _, info = env.step(action)
        told.update(frame.tobytes() + str((reward, terminated, info)).encode())
        if terminated:
            told.update(env.reset()[0].tobytes())
    return told.hexdigest()


CONTINUE = """
import sys
from pathlib import Path
from tests.test_genie_env_starts import ID, digest, gym
env = gym.make(ID, temperature=2.0).unwrapped
env.load_state(Path(sys.argv[1]).read_bytes())
print(digest(env))
"""


def test_a_state_continues_in_another_process(tmp_path):
    env = gym.make(ID, temperature=2.0).unwrapped
    env.reset(seed=4)
    for action in (1, 1, 4):
        env.step(action)
    path = tmp_path / "state"
    path.write_bytes(env.save_state())
    elsewhere = subprocess.check_output(
        [sys.executable, "-c", CONTINUE, path], text=True, cwd=Path(__file__).parents[1]
    )
    assert elsewhere.split() == [digest(env)]
    env.reset(seed=5)
    assert elsewhere.split() != [digest(env)]


def test_branches_share_the_past_and_reseeding_parts_them():
    dreams = gym.make_vec(ID, num_envs=4, temperature=2.0).unwrapped
    env = gym.make(ID, temperature=2.0).unwrapped
    env.reset(seed=0)
    state = env.save_state()
    loaded = dreams.load_state([state] * 4)
    assert (loaded == loaded[0]).all()
    same = dreams.step(np.ones(4, int))[0]
    assert (same == same[0]).all()
    assert np.array_equal(same[0], env.step(1)[0])
    dreams.load_state([state] * 4)
    dreams.reseed([1, 2, 3, 1])
    for _ in range(3):
        frames = dreams.step(np.ones(4, int))[0]
    assert np.array_equal(frames[0], frames[3])
    assert not np.array_equal(frames[0], frames[1])


def test_a_state_of_another_world_or_type_is_refused():
    env, other = (gym.make(ID, dtype=x).unwrapped for x in ("float32", "bfloat16"))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="bfloat16"):
        other.load_state(env.save_state())
