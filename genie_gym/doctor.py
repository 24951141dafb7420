"""`genie-gym doctor`: shows the hardware, ROMs and packages here that genie-gym can use."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from genie_gym import __version__
from genie_gym.errors import MissingDependencyError
from genie_gym.retroact import catalogue
from world_models.command_line import parse
from world_models.worlds.find import list_worlds, user_folder

__all__ = ["Doctor", "Finding", "findings", "main", "processor"]

# Extra -> (module that it installs, features that need it).
_EXTRAS = {
    "train": ("lightning.fabric", "training worlds, genie-gym build"),
    "bench": ("torchmetrics", "evaluating worlds, genie-gym build"),
    "coinrun": ("procgen", "the real CoinRun"),
    "play": ("starlette", 'genie-gym play, render_mode="human"'),
    "web": ("onnx", "genie-gym worlds export-web"),
    "scale": ("ray", "collecting in Ray tasks"),
    "minari": ("minari", "Minari datasets"),
    "lerobot": ("pyarrow", "LeRobot datasets"),
    "share": ("huggingface_hub", "hf:// addresses of worlds"),
    "torchrl": ("torchrl", "dreams as model-based envs of TorchRL"),
}
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Shows the CPU, GPU, precisions, ROMs, extras and compiler of this machine.

    Example: genie-gym doctor
    """

    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report.

    Attributes:
        what: What was looked for.
        found: What was found.
        means: The consequence for the user, or a command to run.
        good: True if nothing is missing.
    """

    what: str
    found: str
    means: str
    good: bool = True


def main(argv: list[str]) -> int:
    """Runs the command line; the exit status is always 0."""
    config = parse(Doctor, argv, prog="genie-gym doctor")
    found = list(findings())
    if config.json:
        print(json.dumps({finding.what: vars(finding) for finding in found}))
        return 0
    width = max(len(finding.what) for finding in found)
    for finding in found:
        print(f"{'ok' if finding.good else '--'}  {finding.what:<{width}}  {finding.found}")
        if finding.means:
            print(f"{'':<{width + 4}}  {finding.means}")
    return 0


def findings() -> Iterator[Finding]:
    """Checks the machine; this includes timing bfloat16 and float32, in under a second."""
    python = f"Python {platform.python_version()}, torch {_version('torch')}"
    yield Finding(what="genie-gym", found=f"{__version__}, {python}", means="")
    yield from _compute()
    yield _compiler()
    yield from (_extra(name, *row) for name, row in _EXTRAS.items())
    yield _roms()
    worlds = list_worlds()
    yield Finding(
        what="worlds",
        found=", ".join(worlds),
        means=f"genie-gym build adds more to {user_folder()}",
        good=bool(worlds),
    )


def _compute() -> Iterator[Finding]:
    import torch

    from world_models.precision import bfloat16_speedup, choose_dtype

    cores, (_, flags) = os.cpu_count() or 1, processor()
    yield Finding(
        what="CPU",
        found=f"{platform.machine()}, {cores} cores, {torch.get_num_threads()} threads for torch"
        + (f", {flags}" if flags else ""),
        means="set OMP_NUM_THREADS=1 if several processes share the cores",
    )
    gpu = torch.cuda.is_available()
    yield Finding(
        what="GPU",
        found=f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}" if gpu else "none",
        means="" if gpu else "worlds run and train on the CPU; larger worlds benefit from a GPU",
        good=gpu,
    )
    device = torch.device("cuda" if gpu else "cpu")
    speedup = bfloat16_speedup(device)
    chosen = str(choose_dtype("auto", device)).removeprefix("torch.")
    yield Finding(
        what="precision",
        found=f"{chosen} on {device.type}",
        means=f'chosen by "auto": bfloat16 is {speedup:.2g} times as fast as float32 here',
    )


def _compiler() -> Finding:
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    return Finding(
        what="compiler",
        found=path or f"{name} was not found",
        means="compile=True works" if path else "only compile=True needs it: apt-get install g++",
        good=path is not None,
    )


def _extra(name: str, module: str, needs: str) -> Finding:
    try:
        here = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the module's parent package is missing
        here = False
    hint = needs if here else f"{needs} need it: pip install 'genie-gym[{name}]'"
    if name == "coinrun" and not here:
        hint += " (CPython 3.11 on Linux x86-64)"
    return Finding(
        what=f"extra {name}", found="installed" if here else "missing", means=hint, good=here
    )


def _roms() -> Finding:
    try:
        playable = len(catalogue.playable_games())
    except MissingDependencyError as missing:
        return Finding(what="ROMs", found="none", means=str(missing), good=False)
    return Finding(
        what="ROMs",
        found=f"{playable} of {len(catalogue.games())} games can be played",
        means="genie-gym roms import --ale adds 32 Atari games, genie-gym roms import PATH others",
        good=playable > 1,
    )


def processor() -> tuple[str, str]:
    """Returns the CPU's name and its instruction sets that matter for speed."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    pairs = [line.split(":", 1) for line in reversed(lines) if ":" in line]
    known = {name.strip(): value.strip() for name, value in pairs}
    flags = known.get("flags", "").split()
    found = " ".join(flag for flag in _INSTRUCTIONS if flag in flags)
    return known.get("model name") or platform.processor() or platform.machine(), found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
