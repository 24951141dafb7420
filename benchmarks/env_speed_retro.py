"""Compare the speed of the retro envs with bare stable-retro, which does the same work per frame.

Bare stable-retro allows one emulator per process, so it runs in a child process, `python -m
benchmarks.env_speed_retro GAME`, which plays one round for each line that it reads from stdin.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import ratio
from genie_gym.actions import action_set, retro_buttons
from genie_gym.envs.frames import fit_square
from genie_gym.envs.retro import RetroEnv, RetroVectorEnv
from genie_gym.retroact import catalogue

GAMES = ("Airstriker-Genesis", "Kangaroo-Atari2600")
STEPS_PER_ROUND = 200
FRAME_SKIP = 4
WORKERS = 2


def measure_retro(quick: bool) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Measure one env, bare stable-retro and two workers in turns, on a Genesis and an Atari game.

    Returns:
        The results, and one table row per game and measured speed. The results are
        ``retro_vs_bare`` (steps per second of one env, relative to bare stable-retro) and
        ``retro_2_workers`` (steps per second of two workers, relative to one env), each for the
        game with the lower value.
    """
    rounds = 4 if quick else 15
    versus_bare, two_workers, rows = [], [], []
    for game in GAMES:
        seconds = _measure(game, rounds)
        ratios = {name: ratio(seconds["bare"], seconds[name]) for name in seconds}
        versus_bare.append(ratios["env"])
        two_workers.append(WORKERS * ratio(seconds["env"], seconds["workers"]))
        speeds = {
            name: STEPS_PER_ROUND / statistics.median(taken) for name, taken in seconds.items()
        }
        speeds["workers"] *= WORKERS
        rows += [
            _row(f"{game}, one env", speeds["env"], None),
            _row(f"{game}, bare stable-retro", speeds["bare"], versus_bare[-1]),
            _row(f"{game}, {WORKERS} workers", speeds["workers"], 1 / two_workers[-1]),
        ]
    return {"retro_vs_bare": min(versus_bare), "retro_2_workers": min(two_workers)}, rows


def _measure(game: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds per round of bare stable-retro, one env and two workers."""
    command = [sys.executable, "-m", "benchmarks.env_speed_retro", game]
    env, workers = RetroEnv(game), RetroVectorEnv(game, num_envs=WORKERS)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as bare:
        contestants: dict[str, Callable[[], float]] = {
            "bare": lambda: _bare_round(bare),
            "env": lambda: _env_round(env),
            "workers": lambda: _workers_round(workers),
        }
        env.reset(seed=0), workers.reset(seed=0)
        for play in contestants.values():
            play()
        taken: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, play in contestants.items():
                taken[name].append(play())
        bare.stdin.close()  # type: ignore[union-attr]
    env.close()
    workers.close()
    return taken


def _env_round(env: RetroEnv) -> float:
    begin = time.perf_counter()
    for action in _actions():
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return time.perf_counter() - begin


def _workers_round(workers: RetroVectorEnv) -> float:
    begin = time.perf_counter()
    for action in _actions():
        workers.step(np.full(WORKERS, action))
    return time.perf_counter() - begin


def _bare_round(bare: subprocess.Popen[str]) -> float:
    assert bare.stdin is not None and bare.stdout is not None
    bare.stdin.write("play\n")
    bare.stdin.flush()
    return float(bare.stdout.readline())


def _actions() -> np.ndarray:
    return np.random.default_rng(0).integers(5, size=STEPS_PER_ROUND)


def _row(name: str, speed: float, share: float | None) -> dict[str, Any]:
    return {
        "what": name,
        "steps/s": round(speed),
        "env / this": "" if share is None else f"{share:.2f}",
    }


def play_bare(name: str) -> None:
    """Play a round for each line read from stdin, and print the round's seconds."""
    import stable_retro

    game = catalogue.game(name)
    env = stable_retro.RetroEnv(game.retro_id, render_mode=None)
    pressed = retro_buttons(action_set("retroact-5"), game.platform)
    masks = [np.array([button in names for button in env.buttons], np.uint8) for names in pressed]
    env.reset()
    for _ in sys.stdin:
        begin = time.perf_counter()
        for action in _actions():
            screens: list[np.ndarray] = []
            for _ in range(FRAME_SKIP):
                screen, _, terminated, _, _ = env.step(masks[action])
                screens.append(screen)
                if terminated:
                    break
            seen = 2 if game.platform == "Atari2600" else 1
            fit_square(np.maximum.reduce(screens[-seen:]), 64)
            if terminated:
                fit_square(env.reset()[0], 64)
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    play_bare(sys.argv[1])
