"""`genie-gym collect`: collects episodes into a dataset and resumes after interruptions."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from filelock import FileLock, Timeout
from tqdm import tqdm

from genie_gym.collect.collector import Collection
from genie_gym.collect.part import Progress, collect_part
from genie_gym.collect.policy_spec import checked_spec
from genie_gym.collect.workers import collect_in_processes
from genie_gym.envs.make import find_spec
from genie_gym.errors import MissingRomError
from genie_gym.retroact.selections import selection
from world_models.command_line import parse
from world_models.episodes import EpisodeDataset, existing_indices
from world_models.progress import progress_bar

__all__ = ["CollectConfig", "collect", "main", "parse_value"]


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Collects episodes from an env into a dataset directory.

    Run the same command again to resume after an interruption, or with a larger `episodes` to
    collect more. Episode i is the same no matter how the work is split.

    Example: genie-gym collect Procgen/CoinRun-v0 --policy mixed --episodes 200 --out data/coinrun

    Attributes:
        env: Env id, such as Procgen/CoinRun-v0, or a selection of games, such as
            @playable-platformers. For a selection, the episodes are divided evenly between the
            games that are playable on this machine.
        out: The dataset directory.
        policy: random, sticky (each action for 8 steps on average), held (each action for 8 to 64
            steps), alternating (between two actions), the folder of a saved agent, MODULE:FUNCTION
            (see docs/episodes.md), or several of these with weights, such as
            sticky=2,runs/agent=1. mixed stands for random=3,sticky=3,held=2,alternating=2.
        episodes: Total number of episodes in the collection.
        max_steps: Maximum number of steps per episode.
        workers: Number of worker processes.
        num_envs: Number of sub-envs in each worker's vector env; by default 64 for CoinRun,
            otherwise the number of CPU cores divided by the number of workers.
        seed: Seed of the collection.
        epsilon: Probability that an action is replaced with a uniformly random one.
        temperature: Temperature of a saved agent's action distribution; 0 takes the most likely
            action.
        part: K/N collects only part K of N (K counts from 0), to divide a collection between
            machines.
        env_kwargs: Further arguments for the env, as KEY VALUE pairs.
        flush_seconds: Maximum number of seconds until a finished episode is on disk. If the process
            is killed, episodes that finished earlier are safe.
        ray: Run the workers as Ray tasks instead of processes (requires the `scale` extra).
    """

    env: Annotated[str, tyro.conf.Positional]
    out: Path
    policy: str = "random"
    episodes: int = 100
    max_steps: int = 500
    workers: int = 1
    num_envs: int | None = None
    seed: int = 0
    epsilon: float = 0.0
    temperature: float = 1.0
    part: str = "0/1"
    env_kwargs: dict[str, str] = field(default_factory=dict)
    flush_seconds: float = 10.0
    ray: bool = False

    def __post_init__(self) -> None:
        for name in ("episodes", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_envs is not None and self.num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {self.num_envs}")
        self.my_part()

    def my_part(self) -> tuple[int, int]:
        """Returns `part` as (K, N)."""
        numbers = self.part.split("/")
        if len(numbers) == 2 and all(number.isdigit() for number in numbers):
            part, parts = int(numbers[0]), int(numbers[1])
            if part < parts:
                return part, parts
        raise ValueError(f"part must be K/N with K from 0 to N-1, e.g. 0/4, got {self.part!r}")

    def collection(self) -> Collection:
        """Returns the settings that determine the content of the episodes."""
        find_spec(self.env)  # raises early for an unknown id, with suggestions
        return Collection(
            env_id=self.env,
            policy=checked_spec(self.policy),
            max_steps=self.max_steps,
            seed=self.seed,
            epsilon=self.epsilon,
            temperature=self.temperature,
            env_kwargs={key: parse_value(text) for key, text in self.env_kwargs.items()},
        )


def main(argv: list[str]) -> int:
    """Runs the command line."""
    config = parse(CollectConfig, argv, prog="genie-gym collect")
    missing = collect(config)
    print(f"to look at the data: genie-gym data show {config.out}")
    return 130 if missing else 0


def collect(config: CollectConfig) -> int:
    """Collects the missing episodes of a collection.

    Returns:
        Number of episodes of this part that are still missing; 0 unless interrupted.
    """
    if config.env.startswith("@"):
        return _collect_selection(config)
    collection = config.collection()
    part, parts = config.my_part()
    mine = range(part, config.episodes, parts)
    if not _missing(config.out, collection, mine):
        print(f"{config.out} has all {len(mine)} episodes already")
        return 0
    _tell_of_others(config.out, collection)
    with _alone(config.out, collection, config.part), _stopped_by_ctrl_c() as stop:
        if wanted := _missing(config.out, collection, mine):  # another process may have added them
            with _Bar(config.env, len(mine), len(mine) - len(wanted)) as bar:
                _run(config, collection, wanted, bar, stop)
        missing = len(_missing(config.out, collection, mine))
    if missing:
        print(f"interrupted, {missing} episodes are missing: run the same command to resume")
    return missing


def _missing(out: Path, collection: Collection, mine: Iterable[int]) -> list[int]:
    """Returns the numbers of the episodes that are not in the dataset yet."""
    done = existing_indices(out, where=collection.owns)
    return [index for index in mine if index not in done]


def _tell_of_others(out: Path, collection: Collection) -> None:
    """Prints how the settings of other episodes in the dataset differ from this collection's."""
    if not any(out.glob("manifest-*.jsonl")):
        return
    wanted = asdict(collection)
    found: Counter[str] = Counter()
    for entry in EpisodeDataset(out, on_damage="skip").entries:
        other = {"env_id": entry.info.env_id, **entry.info.extra.get("collection", {})}
        differences = [f"{k} {other[k]}" for k in wanted if k in other and other[k] != wanted[k]]
        if differences:
            found[", ".join(differences)] += 1
    for difference, number in found.items():
        print(f"note: {out} also has {number} episodes with {difference}")


@contextmanager
def _alone(out: Path, collection: Collection, part: str) -> Iterator[None]:
    """Raises an error if another process is collecting the same episodes into the dataset."""
    identity = json.dumps([asdict(collection), part], sort_keys=True)
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / f".collecting-{hashlib.sha256(identity.encode()).hexdigest()[:12]}")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RuntimeError(
            f"another process is collecting these episodes into {out}: to divide the work, start "
            "each process with its own --part K/N"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _collect_selection(config: CollectConfig) -> int:
    """Collects one game after another into one dataset, with one action set."""
    chosen = selection(config.env)
    if chosen.missing:
        print(f"skipped, ROM missing: {', '.join(game.name for game in chosen.missing)}")
    num_games = len(chosen.playable)
    if not num_games:
        raise MissingRomError(
            f"none of the {len(chosen.games)} games in {config.env} can be played here. "
            "Run: genie-gym roms import PATH, or genie-gym roms import --ale"
        )
    for place, game in enumerate(chosen.playable):
        share = (config.episodes - place + num_games - 1) // num_games
        if share:
            missing = collect(replace(config, env=game.env_id, episodes=share))
            if missing:
                return missing
    return 0


def _run(
    config: CollectConfig,
    collection: Collection,
    wanted: list[int],
    on_progress: Progress,
    stop: threading.Event,
) -> None:
    workers = min(config.workers, len(wanted))
    lists = [wanted[worker::workers] for worker in range(workers)]
    names = [_writer_name(worker) for worker in range(workers)]
    given: dict[str, Any] = {
        "num_envs": config.num_envs or _default_num_envs(config.env, workers),
        "flush_seconds": config.flush_seconds,
        "on_progress": on_progress,
        "should_stop": stop.is_set,
    }
    if config.ray:
        from genie_gym.collect.ray_tasks import collect_in_ray

        collect_in_ray(collection, lists, config.out, names=names, **given)
    elif workers == 1:
        collect_part(collection, wanted, config.out, name=names[0], **given)
    else:
        collect_in_processes(collection, lists, config.out, names=names, **given)


class _Bar:
    """A progress bar with the number of episodes and the frames per second."""

    def __init__(self, name: str, total: int, done: int):
        self._options = {"desc": name, "total": total, "initial": done, "unit": "episode"}
        self._bar: tqdm | None = None  # made late: if making the env fails, only the error shows
        self._steps = 0
        self._lock = threading.Lock()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, steps: int, episodes: int) -> None:
        with self._lock:
            self._bar = self._bar or progress_bar(**self._options)
            self._steps += steps
            seconds = self._bar.format_dict["elapsed"]
            if seconds:
                self._bar.set_postfix_str(f"{self._steps / seconds:,.0f} frames/s", refresh=False)
            self._bar.update(episodes)


@contextmanager
def _stopped_by_ctrl_c() -> Iterator[threading.Event]:
    """Sets the event on the first Ctrl-C, for a clean stop; the second one interrupts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(signum: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _default_num_envs(env_id: str, workers: int) -> int:
    # CoinRun steps 64 sub-envs in one native call; each retro sub-env is a process of its own.
    return 64 if env_id.startswith("Procgen/") else max(1, (os.cpu_count() or 1) // workers)


def _writer_name(worker: int) -> str:
    """Returns a name that is unique among all processes on all machines."""
    host = re.sub(r"\W", "_", socket.gethostname())
    return f"{host}_{os.getpid()}_{worker}"


def parse_value(text: str) -> bool | int | float | str:
    """Parses the VALUE in a KEY VALUE argument: true or false, a number, or text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
