"""The command `genie-gym build`, which turns a game into a dream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from genie_gym.build.build import Build
from genie_gym.build.display import Display
from genie_gym.build.preset import Kind, kind_of
from genie_gym.build.recipes import from_play
from genie_gym.build.result import read_result, report, write_result
from genie_gym.build.stages import Manifest, print_stages, run_stages
from genie_gym.build.timed import Timed
from genie_gym.collect.command import parse_value
from genie_gym.collect.policy_spec import checked_spec
from genie_gym.envs.make import make_rows, world_name
from genie_gym.evaluation.unseen import SEED
from genie_gym.registration import register_dream
from world_models.command_line import parse
from world_models.extras import require
from world_models.settings import begin
from world_models.training.recipes import RECIPES, WorldRecipe
from world_models.worlds.card import BundleError, WorldCard
from world_models.worlds.find import check_name, list_worlds, user_folder

__all__ = ["BuildConfig", "build", "main"]

_RECIPES: dict[Kind, str] = {"sprites": "atari", "scenes": "coinrun"}


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Makes a dream of a game: plays the game, then trains, packs and checks a world model of it.

    Run the same command again to resume after an interruption.

    Example: genie-gym build RetroAct/Boxing-Atari2600-v0 --minutes 20

    Attributes:
        env: Env id of the game: RetroAct/Boxing-Atari2600-v0, Procgen/CoinRun-v0, or any Gymnasium
            env with a Discrete action space and image observations. MODULE:ID imports the module
            that registers the env.
        minutes: Time for all stages together. A few training steps are timed first.
        rounds: Number of rounds after the first world, within the same minutes. In each round, an
            agent is trained in the dream and plays the real game. The world is then fine-tuned on
            the agent's episodes mixed with other episodes.
        preset: How frames become tokens. sprites: a patch codebook, for games with few sprites on
            still backgrounds. scenes: a neural network, for games with a moving camera or detailed
            frames. auto: chosen from the game's labels and a short trial of random play.
        policy: Policy that plays the game; see `genie-gym collect --help`.
        max_steps: Maximum steps per episode.
        seed: Seed of the collection.
        env_kwargs: Further arguments of the env, as KEY VALUE pairs.
        name: Name of the world; by default the game's title.
        out: Folder of the build; by default runs/build/NAME.
        worlds: Folder to copy the finished world to; by default the user's folder of worlds, where
            gym.make finds it.
        replace: Replace the user's world of the same name, or hide the bundled world of this name.
        json: Output file for the scores and the minutes that each stage took; None writes no file.
        list: Only print the stages and which of them are done.
    """

    env: Annotated[str, tyro.conf.Positional]
    minutes: float = 60.0
    rounds: int = 0
    preset: Literal["auto", "sprites", "scenes"] = "auto"
    policy: str = "mixed"
    max_steps: int = 500
    seed: int = 0
    env_kwargs: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    out: Path | None = None
    worlds: Path | None = None
    replace: bool = False
    json: Path | None = None
    list: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.minutes < float("inf"):
            raise ValueError(f"minutes must be positive, got {self.minutes}")
        if self.rounds < 0:
            raise ValueError(f"rounds must be at least 0, got {self.rounds}")
        check_name(self.world)
        if self.seed == SEED:
            raise ValueError(f"seed {SEED} is reserved for scoring worlds: use another --seed")

    @property
    def folder(self) -> Path:
        """Folder of the build."""
        return (self.out or Path("runs/build") / self.world).absolute()

    @property
    def world(self) -> str:
        """Name of the world."""
        return self.name or world_name(self.env)

    @property
    def installed(self) -> Path:
        """Folder to which the finished world is copied."""
        return (self.worlds or user_folder()).absolute() / self.world


def main(argv: list[str]) -> int:
    """Runs `genie-gym build`."""
    config = parse(BuildConfig, argv, prog="genie-gym build")
    if not config.list:
        return 0 if build(config) else 130
    planned, _ = _planned(config, RECIPES["atari"]())
    print_stages(planned.stages, Manifest(config.folder / "stages.jsonl"))
    return 0


def build(config: BuildConfig, recipe: WorldRecipe | None = None) -> bool:
    """Builds a world, or resumes its build. Returns False if the build was interrupted.

    Args:
        config: The settings.
        recipe: Models to train; by default the preset's recipe.
    """
    for module, extra in (("lightning.fabric", "train"), ("torchmetrics", "bench")):
        require(module, extra=extra, what="building a world needs this package")
    out, manifest = config.folder, Manifest(config.folder / "stages.jsonl")
    kwargs = {key: parse_value(text) for key, text in config.env_kwargs.items()}
    num_actions = _num_actions(config.env, kwargs)  # fails now if the game cannot be played here
    kind = kind_of(config.env, **kwargs) if config.preset == "auto" else config.preset
    recipe = _for_actions(recipe or RECIPES[_RECIPES[kind]](), num_actions)
    planned, world = _planned(config, recipe)
    there = config.installed if config.worlds else list_worlds().get(config.world)
    if there and there.exists() and not config.replace and not _same(world, there):
        raise ValueError(
            f"another world is already named {config.world!r} ({there}): choose another --name, or "
            "add --replace to use the new world in its place"
        )
    settings = {
        "env": config.env,
        "preset": kind,
        "policy": checked_spec(config.policy),
        "env_kwargs": config.env_kwargs,
        "seed": config.seed,
        "max_steps": config.max_steps,
        "minutes": config.minutes,
        "rounds": config.rounds,
    }
    begin(out / "build.json", settings, may_change=("minutes",))
    print(f"{config.env} -> GenieRedux/{config.world}-v0 in about {config.minutes:g} minutes")
    print(f"preview: {out / 'preview.png'}, log: {out / 'build.log'}")
    display = Display(planned.stages, manifest, config.minutes, out)
    with display.showing():
        finished = run_stages(planned.stages, manifest, log=display.begin)
        if finished and not _same(world, config.installed):  # the copy is missing or old
            run_stages(planned.stages, manifest, only="install", log=display.begin)
    if not finished:
        print("stopped: run the same command to resume")
        return False
    register_dream(config.world)
    took = sum(entry.get("seconds", 0) for entry in manifest.entries())
    print(f"done in {took / 60:.1f} minutes")
    scores = planned.figures(world)
    print(report(read_result(scores), config.installed, _strip(out)))
    if config.json is not None:
        write_result(config.json, scores, config.minutes, manifest.entries())
    return True


def _planned(config: BuildConfig, recipe: WorldRecipe) -> tuple[Build, Path]:
    """Returns the build, and the folder of its last world."""
    out = config.folder
    sizes = Timed(config.minutes, out, Manifest(out / "stages.jsonl"))
    planned = Build(config.world, config.env, out, sizes)
    world = from_play(
        planned,
        recipe,
        policy=config.policy,
        max_steps=config.max_steps,
        seed=config.seed,
        rounds=config.rounds,
        pictures=out / "pictures",
        env_kwargs=config.env_kwargs,
    )
    planned.install(world, config.installed.parent)
    return planned, world


def _num_actions(env_id: str, kwargs: Mapping[str, Any]) -> int:
    env = make_rows(env_id, 1, **kwargs)
    env.close()
    return int(env.single_action_space.n)  # type: ignore[attr-defined]


def _for_actions(recipe: WorldRecipe, num_actions: int) -> WorldRecipe:
    model = replace(recipe.dynamics.model, num_actions=num_actions)
    return replace(recipe, dynamics=replace(recipe.dynamics, model=model))


def _same(world: Path, other: Path) -> bool:
    """Returns whether both worlds exist and are the same apart from their scores."""
    try:
        return WorldCard.read(world).files == WorldCard.read(other).files
    except BundleError:
        return False


def _strip(out: Path) -> Path:
    return out / "pictures" / "strip.png"
