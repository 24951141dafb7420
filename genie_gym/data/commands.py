"""The commands `genie-gym data show | verify | merge | export | import`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from world_models.command_line import parse
from world_models.episodes import EpisodeDataset, merge, verify

OnDamage = Literal["refuse", "skip"]
Directory = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True, kw_only=True)
class Show:
    """Print a summary of a dataset without changing it; optionally write a contact sheet."""

    path: Directory
    """Dataset directory."""
    sheet: Path | None = None
    """Write a contact sheet, an image with frames of some episodes, to this path."""
    on_damage: OnDamage = "skip"
    """Whether to refuse a damaged dataset or to skip damaged episodes with a warning."""


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Check every byte of a dataset and list the damage. The exit status is 1 if it is damaged."""

    path: Directory
    """Dataset directory."""


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Copy datasets into one, without duplicates; small shards are joined into large ones."""

    sources: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Dataset directories."""
    out: Path
    """Directory of the merged dataset; it may exist already."""
    on_damage: OnDamage = "refuse"
    """Whether to refuse damaged datasets or to skip damaged episodes."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write one episode as a GIF, MP4 or PNG strip, or all as a Minari or LeRobot dataset."""

    path: Directory
    """Dataset directory."""
    out: Path | None = None
    """File to write; its suffix (.gif, .mp4, .png) selects the format."""
    minari: str | None = None
    """Write a new local Minari dataset with this id instead, e.g. coinrun/random-v0."""
    lerobot: Path | None = None
    """Write a new dataset in the LeRobotDataset v3.0 format to this directory instead."""
    episode: int = 0
    """Index of the episode to write."""
    start: int = 0
    """Index of the first frame to write."""
    length: int | None = None
    """Number of frames to write; by default all frames up to the end of the episode."""
    fps: int = 15
    """Frames per second."""
    scale: int = 4
    """Factor by which each frame is enlarged."""

    def __post_init__(self) -> None:
        if [self.out, self.minari, self.lerobot].count(None) != 2:
            raise ValueError("expected exactly one of --out FILE, --minari ID and --lerobot DIR")
        for name in ("fps", "scale", "length"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class Import:
    """Import a Minari image dataset, or a dataset in the layout of the GenieRedux release."""

    source: Annotated[str, tyro.conf.Positional]
    """Directory of the dataset, or id of a local Minari dataset."""
    out: Path
    """Dataset directory to add the episodes to."""
    layout: Literal["minari", "genieredux"]
    """Format of SOURCE."""
    frame_size: int | None = None
    """Pad frames to a square and resize it to this side length; by default keep their size."""
    image_key: str | None = None
    """Minari only: key of the image in a Dict observation."""
    env_id: str | None = None
    """GenieRedux only: env id to record for the episodes."""
    action_set: str = "imported"
    """Name of the action set to record for the episodes."""
    action_meanings: tuple[str, ...] = ()
    """Names of the actions, in order."""

    def __post_init__(self) -> None:
        other = {"minari": "env_id", "genieredux": "image_key"}[self.layout]
        if getattr(self, other) is not None:
            option = f"--{other.replace('_', '-')}"
            raise ValueError(f"{option} does not apply to --layout {self.layout}: omit it")


def main(argv: list[str]) -> int:
    """Run `genie-gym data` and return its exit status."""
    options = parse(
        Annotated[Show, tyro.conf.subcommand("show")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
        | Annotated[Merge, tyro.conf.subcommand("merge")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[Import, tyro.conf.subcommand("import")],
        argv,
        prog="genie-gym data",
        description="Show, verify, merge, export and import episode datasets.",
    )
    return _COMMANDS[type(options)](options)


def show(options: Show) -> int:
    """Print the summary of a dataset, and write its contact sheet."""
    from genie_gym.data.summary import summary

    dataset = EpisodeDataset(options.path, on_damage=options.on_damage)
    print(summary(dataset))
    if options.sheet is not None:
        from genie_gym.data.pictures import write_sheet

        write_sheet(dataset, options.sheet)
        print(f"  contact sheet {options.sheet}")
    return 0


def verify_dataset(options: Verify) -> int:
    """Print what is damaged in a dataset."""
    from tqdm import tqdm

    if not any(options.path.glob("manifest-*.jsonl")):
        raise FileNotFoundError(
            f"{options.path.absolute()} is not a dataset: it has no manifest-*.jsonl"
        )
    with tqdm(unit=" shards", disable=not sys.stderr.isatty()) as bar:
        report = verify(options.path, progress=lambda record: bar.update())
    for path, reason in report.notes:
        print(f"note: {path}: {reason}")
    for path, reason in report.damage:
        print(f"DAMAGED: {path}: {reason}")
    print(
        f"{report.num_episodes:,} episodes, {report.num_frames:,} frames, "
        f"{report.num_shards:,} shards: " + ("damaged" if report.damage else "intact")
    )
    return 1 if report.damage else 0


def merge_datasets(options: Merge) -> int:
    """Copy the episodes of all sources into one dataset."""
    copied = merge(options.sources, options.out, on_damage=options.on_damage)
    print(f"{copied:,} episodes copied to {options.out}")
    return 0


def export(options: Export) -> int:
    """Write the image or video, the Minari dataset or the LeRobot dataset."""
    dataset = EpisodeDataset(options.path)
    if options.lerobot is not None:
        from genie_gym.data.lerobot_io import export_lerobot

        print(f"wrote {export_lerobot(dataset, options.lerobot, fps=options.fps)}")
        return 0
    if options.out is None:
        from genie_gym.data.minari_io import export_minari

        print(f"wrote {export_minari(dataset, str(options.minari))}")
        return 0
    from genie_gym.data.pictures import save_frames

    if not 0 <= options.episode < len(dataset):
        raise ValueError(f"--episode must be from 0 to {len(dataset) - 1}, got {options.episode}")
    end = int(dataset.num_frames[options.episode])
    if not 0 <= options.start < end:
        raise ValueError(f"--start must be from 0 to {end - 1}, got {options.start}")
    stop = end if options.length is None else min(end, options.start + options.length)
    frames = dataset.frames(options.episode, options.start, stop)
    save_frames(frames, options.out, fps=options.fps, scale=options.scale)
    print(f"wrote {options.out} ({len(frames)} frames)")
    return 0


def import_dataset(options: Import) -> int:
    """Import episodes from another format."""
    common: dict[str, Any] = {
        "frame_size": options.frame_size,
        "action_set": options.action_set,
        "action_meanings": options.action_meanings,
    }
    if options.layout == "minari":
        from genie_gym.data.minari_io import MinariSource, import_minari

        minari = MinariSource(dataset=options.source, image_key=options.image_key, **common)
        added = import_minari(minari, options.out)
    else:
        from genie_gym.data.genieredux_io import GenieReduxSource, import_genieredux

        root = Path(options.source)
        added = import_genieredux(
            GenieReduxSource(root=root, env_id=options.env_id, **common), options.out
        )
    print(f"{added:,} episodes added to {options.out}")
    return 0


_COMMANDS: dict[type, Callable[[Any], int]] = {
    Show: show,
    Verify: verify_dataset,
    Merge: merge_datasets,
    Export: export,
    Import: import_dataset,
}
