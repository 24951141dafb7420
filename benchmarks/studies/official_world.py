"""Measure how fast world models of the official size, with random weights, are imported and run.

Run: python -m benchmarks.studies.official_world [--quick] [--steps N] [--compile] [--json FILE]

It writes checkpoints of the official size to a temporary folder, up to 4 GB. Like the authors'
files, the checkpoints include the state of the optimiser. ``official_sizes.json`` contains the
names and shapes of the tensors. A step that begins a new clip, because all position embeddings are
used, is slower than other steps, so speeds are means over whole clips. If FILE is the committed
result, the tables in docs/official.md are updated too.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import Measured, named, run_benchmark, say
from benchmarks.studies.model_page import ROOT, markdown, with_tables
from genie_gym.actions import action_set
from genie_gym.envs.genie import GenieEnv
from world_models.episodes import Episode, EpisodeInfo, EpisodeWriter
from world_models.inference.world import WorldModel
from world_models.worlds.bundle import load_world

__all__ = ["Imported", "import_in_a_process", "tables", "write_checkpoint", "write_frames"]

RESULT, PAGE = ROOT / "benchmarks/results/official_world.json", ROOT / "docs/official.md"
SIZES = Path(__file__).with_name("official_sizes.json")
CARRIED = (1, 2, 4, 8)
SPEEDS = {
    "env steps per second, float32": "steps_per_s_float32",
    "env steps per second, bfloat16": "steps_per_s_bfloat16",
    "frames per second, 4 frames sampled jointly, float32": "joint_frames_per_s",
}
IMPORTS = {"tokenizer and GenieRedux-G": "guided", "tokenizer and GenieRedux": "latent"}
RENEWED_AT, COMPARED = 10, 4  # frame at which a new clip begins, and frames compared after it


def shapes(kind: str) -> Iterator[tuple[str, str, list[int]]]:
    """Yield the model part, name and shape of each tensor in a kind of file.

    The kinds are "tokenizer", "guided-2024", "guided-2025" and "latent".
    """
    for part, tensors in json.loads(SIZES.read_text())[kind].items():
        for name, shape in tensors.items():
            if found := re.search(r"layers\.0-(\d+)\.", name):
                for number in range(int(found[1]) + 1):
                    yield part, name.replace(found[0], f"layers.{number}."), shape
            else:
                yield part, name, shape


def write_checkpoint(path: Path, kind: str, seed: int = 0) -> Path:
    """Write a checkpoint of the official size, with random weights and an optimiser state."""
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, dict[str, Tensor]] = {}
    for part, name, shape in shapes(kind):
        parts.setdefault(part, {})[name] = _random(name, shape, generator)
    every = [x for tensors in parts.values() for x in tensors.values()]
    moments = {i: {"exp_avg": x.clone(), "exp_avg_sq": x.square()} for i, x in enumerate(every)}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"step": 1, "model": parts.get("") or parts, "optim": {"state": moments}}
    torch.save({**content, "scaler": None}, path)
    return path


def _random(name: str, shape: list[int], generator: torch.Generator) -> Tensor:
    if len(shape) == 1:  # gains are 1, biases are 0
        ones = name.endswith(("gamma", "scale")) or re.search(r"(ff\.0|emb.*\.[123])\.weight", name)
        return torch.full(shape, float(bool(ones)))
    scale = 1.0 if name.endswith("embed") else (shape[-1] if len(shape) == 2 else 27) ** -0.5
    return torch.empty(shape).normal_(0, scale, generator=generator)


def write_frames(path: Path, size: int = 64, name: str = "coinrun-7") -> Path:
    """Write a dataset of noise frames to start dreams from."""
    rng, meanings = np.random.default_rng(0), action_set(name).meanings
    info = EpisodeInfo(
        env_id="Procgen/CoinRun-v0", action_set=name, action_meanings=meanings, index=0
    )
    with EpisodeWriter(path) as writer:
        writer.add(
            Episode(
                frames=rng.integers(256, size=(33, size, size, 3), dtype=np.uint8),
                actions=rng.integers(len(meanings), size=32),
                rewards=np.zeros(32, np.float32),
                terminated=False,
                truncated=True,
                info=info,
            )
        )
    return path


class Imported(dict[str, float]):
    """Results of an import: "seconds", "cpu_seconds", and "gib", the largest resident memory."""


def import_in_a_process(tokenizer: Path, dynamics: Path, starts: Path, out: Path) -> Imported:
    """Import the files with `genie-gym worlds import-genieredux`, in a separate process."""
    words = ["worlds", "import-genieredux", "--tokenizer", tokenizer, "--dynamics", dynamics]
    words += ["--starts", starts, "--out", out]
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "genie_gym.cli", *map(str, words)])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"importing {dynamics} failed with exit status {process.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    return Imported(seconds=seconds, cpu_seconds=cpu, gib=usage.ru_maxrss / 2**20)


def steps_per_second(world: Path, steps: int, num_steps: int, **options: object) -> float:
    """Return the env steps per second, after a first step as warm-up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the world model has no rewards
        env = GenieEnv(world, steps=steps, **options)
    env.reset(seed=0)
    env.step(0)
    begun = time.perf_counter()
    for step in range(num_steps):
        env.step(step % 7)
    seconds = time.perf_counter() - begun
    env.close()
    return num_steps / seconds


def joint_frames_per_second(model: WorldModel, frames: Tensor, passes: int, ahead: int) -> float:
    """Return the frames per second of the paper's evaluation: each pass runs the whole sequence."""
    actions = torch.zeros(1, ahead, dtype=torch.int64)
    begun = time.perf_counter()
    model.sampled(steps=passes).imagine(frames[:, :1], actions)
    return ahead / (time.perf_counter() - begun)


def renewal_psnr(model: WorldModel, frames: Tensor, actions: Tensor, carried: int) -> float:
    """Return the PSNR of a dream that begins a new clip midway, against a dream that does not."""
    whole = model.rollout(frames, actions[:, : RENEWED_AT + COMPARED - 1]).frames
    shown = torch.cat((frames, whole), 1)
    recent, last = shown[:, RENEWED_AT - carried : RENEWED_AT], RENEWED_AT + COMPARED - 1
    anew = model.rollout(recent, actions[:, RENEWED_AT - carried : last]).frames
    error = (anew.float() - shown[:, RENEWED_AT:].float()).square().mean()
    return float(10 * torch.log10(255**2 / error.clamp(min=1e-3)))


def renewal_cost(model: WorldModel, frames: Tensor, carried: int) -> float:
    """Return the time to begin a new clip, relative to the time of the steps between two clips."""
    actions = torch.zeros(1, carried, dtype=torch.int64)
    begun = time.perf_counter()
    state = model.start(frames[:, :carried], actions[:, 1:])
    begin = time.perf_counter() - begun
    begun = time.perf_counter()
    model.step(state, actions[:, 0])
    step = time.perf_counter() - begun
    return begin / (step * (model.dynamics.config.horizon + 1 - carried))


def measure(given: Namespace) -> Measured:
    """Write the files, import them and run the world models."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        root = Path(folder)
        tokenizer, starts = write_checkpoint(root / "t.pt", "tokenizer"), root / "frames"
        write_frames(starts)
        for kind in ("guided-2024",) if given.quick else ("latent", "guided-2024"):
            say(f"import {kind}")
            file = write_checkpoint(root / f"{kind}.pt", kind)
            found = import_in_a_process(tokenizer, file, starts, root / kind)
            figures |= {f"import_{kind[:6]}_{name}": value for name, value in found.items()}
            file.unlink()
        figures |= _speeds(root / "guided-2024", given) | _joint(root / "guided-2024", given)
    return figures, [{"figure": name, "value": value} for name, value in figures.items()]


def _speeds(world: Path, given: Namespace) -> dict[str, float]:
    found = {}
    compiled = (False, True) if given.compile else (False,)
    for dtype, passes, compile in itertools.product(("float32", "bfloat16"), (1, 25), compiled):
        say(f"{dtype}, {passes} passes{', compiled' if compile else ''}")
        name = f"steps_per_s_{dtype}_{passes}" + ("_compiled" if compile else "")
        found[name] = steps_per_second(world, passes, given.steps, dtype=dtype, compile=compile)
    return found


def _joint(world: Path, given: Namespace) -> dict[str, float]:
    """Return the results for the paper's joint sampling, and for new clips in a dream."""
    loaded = load_world(world)
    model, starts = loaded.model, loaded.starts
    bank, actions = starts.frames.flatten(0, 1)[None], torch.arange(RENEWED_AT + COMPARED)[None] % 7
    found = {}
    for passes in (1,) if given.quick else (1, 25):
        say(f"all frames at once, {passes} passes")
        found[f"joint_frames_per_s_{passes}"] = joint_frames_per_second(
            model, bank[:, :2], passes, ahead=4
        )
    for carried in CARRIED[:1] if given.quick else CARRIED:
        say(f"{carried} carried frames")
        found[f"carried_{carried}_psnr"] = renewal_psnr(model, bank[:, :2], actions, carried)
        found[f"carried_{carried}_more_time"] = renewal_cost(model, bank[:1], carried)
    return found


def tables(figures: Mapping[str, float]) -> dict[str, str]:
    """Return the tables for docs/official.md by name."""
    carried = [["`carried_frames`", "more time", "PSNR to no new clip (dB)"]]
    for number in CARRIED:
        more, psnr = (figures[f"carried_{number}_{x}"] for x in ("more_time", "psnr"))
        carried.append([str(number), f"{100 * more:.0f} %", f"{psnr:.1f}"])
    speed = [["what", "one pass", "25 passes"]]
    for name, key in SPEEDS.items():
        speed.append([name, *(f"{figures[f'{key}_{passes}']:.2f}" for passes in (1, 25))])
    imports = [["import", "seconds", "GiB of memory"]]
    for name, key in IMPORTS.items():
        seconds, gib = (figures[f"import_{key}_{x}"] for x in ("seconds", "gib"))
        imports.append([name, f"{seconds:.0f}", f"{gib:.1f}"])
    every = {"carried": carried, "speed": speed, "import": imports}
    return {name: markdown(named(lines)) for name, lines in every.items()}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""

    def options(parser: ArgumentParser) -> None:
        parser.add_argument("--steps", type=int, default=24, help="env steps per measurement")
        parser.add_argument("--compile", action="store_true", help="also measure compiled steps")
        parser.add_argument("--folder", type=Path, help="folder for 4 GB of temporary files")

    before = RESULT.read_text()
    status = run_benchmark(
        "studies.official_world",
        measure,
        argv,
        about=__doc__,
        options=options,
        quick="GenieRedux-G alone, fewer passes",
    )
    if (now := RESULT.read_text()) != before:
        PAGE.write_text(with_tables(PAGE.read_text(), tables(json.loads(now)["figures"])))
    return status


if __name__ == "__main__":
    sys.exit(main())
