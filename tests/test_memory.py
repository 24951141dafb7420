"""Dreams reuse memory, instead of returning it to the system at every step."""

from __future__ import annotations

import subprocess
import sys

PAGES_PER_STEP = """
import resource
import genie_gym, gymnasium as gym
env = gym.make_vec("GenieRedux/CrazyClimber-v0", num_envs=32, dtype="float32")
env.reset(seed=0)
def pages(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        env.step(env.action_space.sample())
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / steps
pages(10)
print(pages(20))
"""


def test_a_step_asks_the_system_for_few_pages_of_memory():
    printed = subprocess.check_output([sys.executable, "-c", PAGES_PER_STEP], text=True)
    assert float(printed) < 500  # with glibc's own settings, over 5,000
