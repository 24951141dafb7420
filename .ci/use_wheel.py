"""What a plain installation must do: make a shipped world by its id, and train an agent in it."""

import importlib.util
from pathlib import Path

import gymnasium as gym
from stable_baselines3 import PPO

EXTRAS = ("lightning", "torchmetrics", "procgen", "ray", "starlette", "pytest")


def dream() -> None:
    """Without an import of the package: the id names it."""
    env = gym.make("genie_gym:GenieRedux/Pong-v0")
    frame, info = env.reset(seed=0)
    assert frame.shape == (64, 64, 3) and frame.std() > 0
    for _ in range(10):
        env.step(env.action_space.sample())
    env.close()


def train() -> None:
    """An agent of Stable-Baselines3 in the dream."""
    from agents.sb3 import make_sb3_env

    model = PPO("CnnPolicy", make_sb3_env("GenieRedux/Pong-v0", 8), n_steps=32, device="cpu")
    model.learn(256)
    assert model.num_timesteps == 256


def is_the_wheel() -> None:
    """Not a checkout, and no extra came with it."""
    import genie_gym

    assert "site-packages" in str(Path(genie_gym.__file__)), genie_gym.__file__
    for extra in EXTRAS:
        assert importlib.util.find_spec(extra) is None, f"{extra} was installed without its extra"


if __name__ == "__main__":
    dream()
    train()
    is_the_wheel()
    print("a dream was played, and PPO learned in it")
