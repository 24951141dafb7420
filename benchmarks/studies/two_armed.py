"""Check where an agent goes if its only reward is a world model's uncertainty.

A walker switches a television on by standing in the right half. Left and right do not differ
otherwise, and the game gives no reward. The television shows what the world model has learned, what
it has not learned, or pure noise.

Run: python -m benchmarks.studies.two_armed [--quick] [--json FILE]
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from sb3_contrib import RecurrentPPO
from torch import Tensor, nn

import agents  # noqa: F401  (names the policy)
from agents.sb3 import SB3VecEnv
from benchmarks.report import Measured, run_benchmark
from genie_gym.actions import ActionSet
from genie_gym.envs.rows import RowsOutcome
from genie_gym.envs.vector import FrameVectorEnv
from genie_gym.wrappers import DynamicsEntropyVector
from world_models.inference.world import WorldModel
from world_models.model.dynamics import Dynamics
from world_models.model.reconstruction import ReconstructionLossConfig
from world_models.parts import build_tokenizer
from world_models.presets import tiny
from world_models.tokenizers.base import Tokenizer
from world_models.training.validation import Loss
from world_models.worlds.bundle import StartBank, save_world
from world_models.worlds.card import WorldCard

ACTIONS = ActionSet(name="walk-3", meanings=("STAY", "RIGHT", "LEFT"))
SIDE, CELL = 4, 4  # cells per side of a frame, pixels per side of a cell
LENGTH = 16  # steps of an episode
NUM_ROWS = 8
ROLLOUT = 64
# The walker is small: with squared error alone the tokenizer would ignore it.
SPRITES = ReconstructionLossConfig(changed_weight=20.0, l1_weight=0.05, revive_after=20)
STEPS, QUICK_STEPS = 8_192, 4_096
SEEDS, QUICK_SEEDS = 3, 1
# What the television shows while the world model is trained, and while the agent is trained.
CASES = {
    "nothing": ("off", "off"),
    "unlearned": ("off", "clock"),
    "learned": ("clock", "clock"),
    "noise": ("noise", "noise"),
}


class TelevisionVectorEnv(FrameVectorEnv):
    """A player walks along the bottom; in the right half, it switches on a screen above.

    The infos have the key ``on``: whether the screen is on.

    Args:
        num_envs: Number of sub-envs, called rows.
        programme: "off" shows nothing; "clock" a rotating bar; "noise" random grey levels.
        **options: Options of `FrameVectorEnv`.
    """

    def __init__(self, num_envs: int, programme: str, **options: Any):
        kind = f"Benchmark/Television({programme})"
        frame = {"frame_size": SIDE * CELL, "max_episode_steps": LENGTH}
        super().__init__(num_envs, actions=ACTIONS, kind=kind, **{**frame, **options})
        self._programme = programme
        self._column = np.zeros(num_envs, np.intp)
        self._time = np.zeros(num_envs, np.intp)

    def _begin_rows(self, rows: NDArray[np.intp], options: dict[str, Any]) -> dict[str, Any]:
        for row in rows:
            self._column[row] = self.np_random[row].integers(SIDE)
        self._time[rows] = 0
        return {"on": self._draw(rows)}

    def _step_rows(self, rows: NDArray[np.intp], actions: NDArray[np.int64]) -> RowsOutcome:
        moves = np.array([0, 1, -1])[actions]
        self._column[rows] = (self._column[rows] + moves).clip(0, SIDE - 1)
        on = self._column[rows] >= SIDE // 2
        self._time[rows] = np.where(on, self._time[rows] + 1, 0)  # steps since it was switched on
        never = np.zeros(len(rows), np.bool_)
        infos = {"on": self._draw(rows)}
        return RowsOutcome(
            rewards=np.zeros(len(rows)), terminated=never, truncated=never, infos=infos
        )

    def _draw(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        on = self._column[rows] >= SIDE // 2
        for row, lit in zip(rows, on, strict=True):
            cells = np.full((SIDE, SIDE), 20, np.uint8)
            if lit and self._programme == "clock":
                cells[: SIDE // 2, self._time[row] % SIDE] = 220
            if lit and self._programme == "noise":
                shades = self.np_random[row].integers(4, size=(SIDE // 2, SIDE))
                cells[: SIDE // 2] = 40 + 60 * shades
            cells[-1, self._column[row]] = 250
            self.frames[row] = cells.repeat(CELL, 0).repeat(CELL, 1)[..., None]
        return on

    def _save_row(self, row: int) -> bytes:
        return np.array([self._column[row], self._time[row]]).tobytes()

    def _load_rows(self, rows: NDArray[np.intp], state: bytes) -> None:
        self._column[rows], self._time[rows] = np.frombuffer(state, np.intp)


def learn_world(folder: Path, programme: str, steps: tuple[int, int] = (120, 200)) -> Path:
    """Train a small world model on random play with this programme; return its bundle's path.

    Args:
        folder: Output folder of the bundle.
        programme: What the television shows.
        steps: Training steps of the tokenizer and of the dynamics.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    config = tiny(num_actions=len(ACTIONS))
    tokenizer = build_tokenizer(replace(config.tokenizer, num_codes=16))
    loss = partial(Tokenizer.loss, config=SPRITES)
    _fit(tokenizer, loss, lambda: _episodes(programme, rng), num_steps=steps[0])
    dynamics = Dynamics(config.dynamics, tokenizer.space, tokenizer.codes())

    def batch() -> dict[str, Tensor]:
        data = _episodes(programme, rng)
        return {**data, "tokens": tokenizer.encode(data["frames"])}

    _fit(dynamics, Dynamics.loss, batch, num_steps=steps[1])
    card = WorldCard(
        name=f"Television-{programme}",
        action_set=ACTIONS.name,
        action_meanings=ACTIONS.meanings,
        env_id="Benchmark/Television",
    )
    some = _episodes(programme, rng)
    starts = StartBank(frames=some["frames"][:, :2], actions=some["actions"][:, :1])
    save_world(folder / card.name, card, WorldModel(tokenizer, dynamics).eval(), starts)
    return folder / card.name


def _fit(
    model: nn.Module,
    loss_of: Loss,
    batch: Callable[[], dict[str, Tensor]],
    num_steps: int,
    rate: float = 5e-3,
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, num_steps, pct_start=0.1)
    for _ in range(num_steps):
        loss, _ = loss_of(model, batch())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def _episodes(programme: str, rng: np.random.Generator, num: int = 8) -> dict[str, Tensor]:
    env = TelevisionVectorEnv(num, programme)
    frames = [env.reset(seed=int(rng.integers(2**31)))[0]]
    actions = rng.integers(len(ACTIONS), size=(num, 7))
    frames += [env.step(chosen)[0] for chosen in actions.T]
    return {
        "frames": torch.from_numpy(np.stack(frames, 1)),
        "actions": torch.from_numpy(actions),
    }


class Television(SB3VecEnv):
    """The env with the world model's uncertainty as reward; it records when the screen is on.

    Attributes:
        on: Whether the screen was on, ``(steps, rows)``.
        uncertainty: The rewards, ``(steps, rows)``.
    """

    def __init__(self, world: Path, programme: str):
        mode = AutoresetMode.SAME_STEP
        env = TelevisionVectorEnv(NUM_ROWS, programme, autoreset_mode=mode)
        super().__init__(DynamicsEntropyVector(env, world, mode="streaming"))
        self.on: list[NDArray[np.bool_]] = []
        self.uncertainty: list[NDArray[np.float64]] = []

    def step_wait(self) -> Any:
        """Step the env and record the screen and the reward."""
        frames, rewards, dones, infos = super().step_wait()
        self.on.append(np.array([info["on"] for info in infos]))
        self.uncertainty.append(rewards)
        return frames, rewards, dones, infos


def explored(world: Path, programme: str, *, steps: int, seed: int) -> Television:
    """Train an agent on the model's uncertainty alone; return the agent's env with the records."""
    env = Television(world, programme)
    model = RecurrentPPO(
        "AutoExplorePolicy", env, n_steps=ROLLOUT, batch_size=128, n_epochs=4,
        learning_rate=1e-3, gamma=0.9, ent_coef=0.003, max_grad_norm=10.0, seed=seed,
        device="cpu", policy_kwargs={"lstm_hidden_size": 64},
    )  # fmt: skip
    model.learn(steps)
    return env


def shares(env: Television) -> NDArray[np.float64]:
    """Return, for each rollout, the fraction of steps in which the screen was on."""
    return np.array(env.on).reshape(-1, ROLLOUT, NUM_ROWS).mean((1, 2))


def measure(given: Namespace) -> Measured:
    torch.set_num_threads(1)
    steps = QUICK_STEPS if given.quick else STEPS
    figures: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        worlds = {p: learn_world(Path(folder), p) for p in ("off", "clock", "noise")}
        for case, (learned, shown) in CASES.items():
            runs = [
                explored(worlds[learned], shown, steps=steps, seed=seed)
                for seed in range(QUICK_SEEDS if given.quick else SEEDS)
            ]
            last = [float(shares(run)[-4:].mean()) for run in runs]
            on = np.concatenate(runs[0].on)
            numbers = {
                "share": float(np.mean(last)),
                "share_lowest": min(last),
                "share_highest": max(last),
                "uncertainty_on": float(np.concatenate(runs[0].uncertainty)[on].mean()),
                "uncertainty_off": float(np.concatenate(runs[0].uncertainty)[~on].mean()),
            }
            figures |= {f"{case}_{name}": value for name, value in numbers.items()}
            rows.append({"television": case, "world saw": learned, "agent sees": shown, **numbers})
    return figures, rows


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    quick = f"{QUICK_STEPS} steps, one seed"
    return run_benchmark("studies.two_armed", measure, argv, about=__doc__, quick=quick)


if __name__ == "__main__":
    main()
