"""`genie-gym worlds list | show | verify | ...`: manages the world models on this machine."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from genie_gym.import_genieredux import ImportGenieredux, import_genieredux
from genie_gym.share_commands import Pull, Push, pull, push
from world_models.command_line import parse
from world_models.extras import require
from world_models.settings import begin
from world_models.worlds.card import BundleError, WorldCard
from world_models.worlds.find import find_world, list_worlds, search_folders

__all__ = ["List", "Make", "Show", "Verify", "main"]


@dataclass(frozen=True, kw_only=True)
class List:
    """Lists the world models on this machine."""

    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True, kw_only=True)
class Show:
    """Shows a world model's card."""

    world: tyro.conf.Positional[str]
    """Name or path of the world model."""
    json: bool = False
    """Print the whole card as JSON."""


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Checks every byte of one or more world models."""

    worlds: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names or paths of the world models; by default all on this machine."""


@dataclass(frozen=True, kw_only=True)
class Make:
    """Trains one of the world models in the package, or Frostbite, with its own recipe.

    Run the same command again to resume after an interruption.
    """

    name: tyro.conf.Positional[str]
    """Name of the world model: CoinRun, CrazyClimber, Freeway, Frostbite, Hero or Pong."""
    out: Path | None = None
    """Folder to write to; by default runs/worlds/NAME."""
    minutes: float | None = None
    """Time for all stages; less time makes a worse world model. By default, the numbers of episodes
    and training steps come from the recipe."""
    scale: float = 1.0
    """Multiplies the numbers of episodes and training steps; below 1 for a quick trial. Cannot be
    combined with --minutes."""
    list: bool = False
    """Only print the stages and which of them are done."""


@dataclass(frozen=True, kw_only=True)
class ExportWeb:
    """Writes a web page, a folder of static files that runs a world model in the browser."""

    world: tyro.conf.Positional[str]
    """Name or path of the world model."""
    out: Path
    """The folder to write."""
    runtime: Path | None = None
    """Folder of the npm package onnxruntime-web; by default, npm downloads it once."""


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Pull, tyro.conf.subcommand("pull")]
    | Annotated[Push, tyro.conf.subcommand("push")]
    | Annotated[Make, tyro.conf.subcommand("make")]
    | Annotated[ExportWeb, tyro.conf.subcommand("export-web")]
    | Annotated[ImportGenieredux, tyro.conf.subcommand("import-genieredux")]
)


def main(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    command = parse(Command, argv, tyro.conf.OmitArgPrefixes, prog="genie-gym worlds")
    if isinstance(command, List):
        return _list(command)
    if isinstance(command, Pull):
        return pull(command)
    if isinstance(command, Push):
        return push(command)
    if isinstance(command, Make):
        return _make(command)
    if isinstance(command, ExportWeb):
        return _export_web(command)
    if isinstance(command, ImportGenieredux):
        print(import_genieredux(command))
        return 0
    return _show(command) if isinstance(command, Show) else _verify(command)


def _list(command: List) -> int:
    worlds = list_worlds()
    if command.json:
        print(json.dumps({name: str(path) for name, path in worlds.items()}))
        return 0
    if not worlds:
        print("no worlds found in")
        print("\n".join(f"  {folder}" for folder in search_folders()))
        return 0
    print(f"{'world':<24} {'learned from':<34} {'actions':<12} {'MiB':>6}  path")
    for name, path in worlds.items():
        try:
            card = WorldCard.read(path)
        except BundleError as fault:
            print(f"{name:<24} cannot be read: {fault}")
            continue
        size = _num_bytes(path) / 2**20
        print(f"{name:<24} {card.env_id:<34} {card.action_set:<12} {size:>6.1f}  {path}")
    return 0


def _show(command: Show) -> int:
    path = find_world(command.world)
    card = WorldCard.read(path)
    if command.json:
        print(json.dumps(asdict(card)))
        return 0
    side = card.frame_size
    listed = any(found.samefile(path) for found in list_worlds().values())
    rows = {
        "path": str(path),
        "env id": f"GenieRedux/{path.name}-v0" if listed else "none: make it with world=PATH",
        "learned from": card.env_id,
        "actions": f"{card.action_set}: {', '.join(card.action_meanings)}",
        "frames": f"{side}x{side}",
        "size": f"{_num_bytes(path) / 2**20:.1f} MiB, matrices as {card.storage}",
        **{f"score: {name}": f"{value:.4g}" for name, value in card.scores.items()},
        **{name: str(value) for name, value in card.provenance.items()},
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")
    return 0


def _verify(command: Verify) -> int:
    from world_models.worlds.bundle import (
        load_world,  # imports torch, which list and show do not need
    )

    paths = [find_world(world) for world in command.worlds] or list(list_worlds().values())
    faults = 0
    for path in paths:
        try:
            world = load_world(path)
        except BundleError as fault:
            faults += 1
            print(f"DAMAGED  {path}: {fault}", file=sys.stderr)
        else:
            num = sum(p.numel() for p in world.model.parameters())
            starts = len(world.starts.frames)
            print(f"ok       {path}: {num / 1e6:.1f}M parameters, {starts} starts")
    print(f"{len(paths) - faults} of {len(paths)} worlds are intact")
    return 1 if faults else 0


def _make(command: Make) -> int:
    from genie_gym.build.build import Build
    from genie_gym.build.display import Display
    from genie_gym.build.recipes import WORLDS
    from genie_gym.build.result import read_result
    from genie_gym.build.sizes import Scaled
    from genie_gym.build.stages import Manifest, print_stages, run_stages
    from genie_gym.build.timed import Timed

    if command.name not in WORLDS:
        raise ValueError(
            f"no recipe for the world model {command.name!r}: expected one of {', '.join(WORLDS)}"
        )
    if command.scale <= 0:
        raise ValueError(f"scale must be positive, got {command.scale}")
    minutes = command.minutes
    if minutes is not None and (minutes <= 0 or command.scale != 1):
        raise ValueError("--minutes must be positive and cannot be combined with --scale")
    env, recipe = WORLDS[command.name]
    out = (command.out or Path("runs/worlds") / command.name).absolute()
    manifest = Manifest(out / "stages.jsonl")
    sizes = Scaled(command.scale) if minutes is None else Timed(minutes, out, manifest)
    build = Build(command.name, env, out, sizes)
    world = recipe(build)
    if command.list:
        print_stages(build.stages, manifest)
        return 0
    for module, extra in (("lightning.fabric", "train"), ("torchmetrics", "bench")):
        require(module, extra=extra, what="making a world needs this package")
    settings = {"world": command.name, "scale": command.scale, "minutes": minutes}
    settings["timed"] = minutes is not None
    begin(out / "build.json", settings, may_change=("minutes",))
    if minutes is None:
        finished = run_stages(build.stages, manifest)
    else:
        display = Display(build.stages, manifest, minutes, out)
        with display.showing():
            finished = run_stages(build.stages, manifest, log=display.begin)
    if not finished:
        print("stopped: run the same command to resume")
        return 130
    for scores in sorted(out.glob("fidelity-*.json")):
        if fault := read_result(scores).get("fault"):
            print(f"the check failed: {fault} ({scores})")
    print(f"made {world}")
    return 0


def _export_web(command: ExportWeb) -> int:
    from genie_gym.web.export import export_web

    out = export_web(command.world, command.out, command.runtime)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"wrote {out}: {size / 1e6:.1f} MB. Look at it with: python -m http.server -d {out}")
    return 0


def _num_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
