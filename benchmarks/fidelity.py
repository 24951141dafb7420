"""Evaluate a world model against the real env it was trained on, with held-out episodes.

`genie-gym bench fidelity WORLD` starts dreams from real frames, steps them with the recorded
actions, and compares the dreamed frames with the real ones. docs/fidelity.md defines each number.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import torch
import tyro
from torch import nn

import genie_gym  # noqa: F401  registers the env ids
from benchmarks.dreams.exploits import Exploits, has_rewards, look_for_exploits
from benchmarks.dreams.fid import FidUnavailableError, inception
from benchmarks.dreams.heldout import collected, described, stored
from benchmarks.dreams.measure import Amounts, Measured, measure
from benchmarks.dreams.rates import Rates, measure_rates
from benchmarks.dreams.scores import Picture, as_it_is
from benchmarks.dreams.table import exploit_rows, rate_rows, table_rows
from benchmarks.page.film import write_pictures
from benchmarks.page.page import Subject, write_page
from benchmarks.page.sections import ranked
from benchmarks.report import command, report, say
from genie_gym.envs.coinrun import paint_over_velocity_map
from genie_gym.envs.loaded_worlds import LoadedWorld, open_world
from genie_gym.evaluation.dreamer import Dreamer, Mode
from genie_gym.evaluation.unseen import SEED
from world_models.command_line import parse
from world_models.episodes import EpisodeDataset
from world_models.inference.world import WorldModel
from world_models.worlds.bundle import record_scores
from world_models.worlds.card import WorldCard
from world_models.worlds.find import find_world

__all__ = ["FidelityConfig", "main"]

QUICK_EPISODES = 24
QUICK = Amounts(windows=64, horizon_windows=0, event_windows=64, long_dreams=4, long_frames=200)
_LESS = ("windows", "horizon_windows", "event_windows", "long_dreams", "long_frames")
RECORDED = (
    "psnr",
    "psnr_copy",
    "psnr_ceiling",
    "ssim",
    "changed_psnr",
    "changed_psnr_copy",
    "changed_psnr_ceiling",
    "delta4_psnr_genie",
    "delta4_psnr_last_action",
    "delta4_changed_psnr_genie",
    "reward_precision",
    "reward_recall",
    "termination_precision",
    "termination_recall",
    "calibration_spearman",
    "stability_motion",
    "survival_200",
    "survival_real",
    "player_survival_100",
    "exploit_ratio",
    "exploit_gate",
)
"""The results that a world model's card stores."""

RATED = ("random", "sticky")  # policies whose rates of rewards and terminations are measured
NUM_PICTURED = 3  # dreams in the film strip and the animation


@dataclass(frozen=True, kw_only=True)
class FidelityConfig:
    """Compares a world model with the real env it was trained on, on held-out episodes.

    Example: genie-gym bench fidelity GenieRedux/CoinRun-v0 --quick --html page.html

    Attributes:
        world: World model to evaluate: its env id (GenieRedux/CoinRun-v0), name or path.
        data: Dataset of real episodes; by default, episodes are played and cached.
        split: Episodes of `data` to use: test (those that training never reads) or all.
        episodes: Number of episodes to play.
        max_steps: Maximum length of a played episode.
        play_policy: Policy that plays these episodes, as in `genie-gym collect`.
        play_seed: Seed of the played episodes.
        agents: Folders of agents trained in this dream, to check that the dream does not
            overestimate their returns.
        mode: How frames are generated. stream: one by one, like the env. As in the paper:
            autoregressive (two at once) or one_go (all at once).
        amounts: Number of windows and frames to measure.
        quick: Measure fewer windows and frames; takes about a minute.
        sampling_steps: Sampling passes per frame; None uses the world's setting.
        temperature: Temperature of the first sampling pass; None uses the world's setting.
        device: cpu, cuda, ...; auto uses a GPU if available.
        dtype: Data type of the weights.
        batch_size: Number of dreams in one batch.
        fid_weights: Path of local Inception weights; FID is skipped without them.
        record: Save the main results in the world model's card.
        json: Output file for the results; None writes no file.
        html: Output file for the HTML report; None writes no report.
        pictures: Output folder for a film strip, an animation, and a grid with a row per action;
            None draws no images.
    """

    world: Annotated[str, tyro.conf.Positional]
    data: Path | None = None
    split: Literal["test", "all"] = "test"
    episodes: int = 64
    max_steps: int = 500
    play_policy: str = "sticky"
    play_seed: int = SEED
    agents: tuple[Path, ...] = ()
    mode: Mode = "stream"
    amounts: Amounts = Amounts()
    quick: bool = False
    sampling_steps: int | None = None
    temperature: float | None = None
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int = 16
    fid_weights: Path | None = None
    record: bool = False
    json: Path | None = None
    html: Path | None = None
    pictures: Path | None = None

    def __post_init__(self) -> None:
        other = self.mode != "stream" or (self.sampling_steps, self.temperature) != (None, None)
        if self.record and other:
            raise ValueError(
                "--record saves the scores of the world's own sampling: omit --mode, "
                "--sampling-steps and --temperature"
            )


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    config = parse(FidelityConfig, argv, tyro.conf.OmitArgPrefixes)
    world = open_world(world_name(config.world), config.device, config.dtype)
    features, no_fid = _features(config)
    episodes = _episodes(config, world.card)
    subject = Subject(
        name=world.card.name,
        env_id=world.card.env_id,
        mode=config.mode,
        data=described(world.card, episodes),
        command=command("fidelity"),
        no_fid=no_fid,
        meanings=world.actions.meanings,
    )
    say(subject.data)
    measured = measure(
        Dreamer(_model(config, world), config.mode, world.device, config.batch_size),
        episodes,
        world.actions,
        _amounts(config, episodes),
        clean=_clean(world.card),
        features=features,
        outcomes=world.card.outcomes,
        say=say,
    )
    figures, rows = measured.figures(), table_rows(measured, no_fid)
    try:
        if config.data is None and _pays(world):  # the real game is installed: it was played
            if has_rewards(world.card):
                exploits = _exploits(config)
                figures, rows = {**figures, **exploits.figures()}, [*rows, *exploit_rows(exploits)]
            rates = _rates(config)
            for rate in rates:
                figures |= rate.figures()
            rows = [*rows, *rate_rows(rates)]
    finally:  # keep what was measured, even if playing is interrupted
        _keep(config, subject, measured, figures)
        report("fidelity", figures, rows, config.json)
    return 0


def world_name(world: str) -> str:
    """Return the world model of an env id; return a name or path unchanged."""
    if not world.startswith("GenieRedux/"):
        return world
    return str(gym.spec(world).kwargs["world"])


def _pays(world: LoadedWorld) -> bool:
    """Return whether a world model predicts rewards, and takes the actions of the real game."""
    return world.card.outcomes and world.card.latent_action is None


def _dreaming(config: FidelityConfig) -> dict[str, Any]:
    """Return the arguments with which an env dreams like the measured world model."""
    return {
        "device": config.device,
        "dtype": config.dtype,
        "steps": config.sampling_steps,
        "temperature": config.temperature,
    }


def _exploits(config: FidelityConfig) -> Exploits:
    say("checking whether the dream overpays any policy")
    num_starts, steps = (32, 30) if config.quick else (128, 100)
    return look_for_exploits(
        world_name(config.world),
        list(config.agents),
        num_starts=min(num_starts, 2 * config.episodes),
        steps=min(steps, config.max_steps),
        dreaming=_dreaming(config),
    )


def _rates(config: FidelityConfig) -> list[Rates]:
    say("measuring rewards and ends of long dreams and of the game, from the same starts")
    policies = {name: name for name in RATED}
    if config.play_policy not in policies:
        policies["played"] = config.play_policy
    num_starts, steps = (4, 200) if config.quick else (16, 200)
    return measure_rates(
        world_name(config.world),
        policies,
        num_starts=min(num_starts, config.episodes),
        steps=min(steps, config.max_steps),
        dreaming=_dreaming(config),
    )


def _keep(
    config: FidelityConfig, subject: Subject, measured: Measured, figures: Mapping[str, float]
) -> None:
    """Write the optional outputs: scores in the card, the HTML report and pictures."""
    if config.record:
        scores = {name: figures[name] for name in RECORDED if name in figures}
        record_scores(find_world(world_name(config.world)), scores)
    if config.html is not None:
        write_page(config.html, subject, measured)
        say(f"wrote {config.html}")
    if config.pictures is not None:
        chosen = [window for _, window in ranked(measured, NUM_PICTURED)]
        clips, meanings = measured.clips, subject.meanings
        for path in write_pictures(config.pictures, clips, chosen, measured.held, meanings):
            say(f"wrote {path}")


def _episodes(config: FidelityConfig, card: WorldCard) -> EpisodeDataset:
    if config.data is not None:
        return stored(card, config.data, config.split)
    return collected(
        card,
        episodes=min(config.episodes, QUICK_EPISODES) if config.quick else config.episodes,
        max_steps=config.max_steps,
        seed=config.play_seed,
        policy=config.play_policy,
    )


def _amounts(config: FidelityConfig, episodes: EpisodeDataset) -> Amounts:
    """Return the requested amounts, reduced if `quick` is set or if all episodes are too short."""
    amounts = config.amounts
    if config.quick:
        few = {name: min(getattr(QUICK, name), getattr(amounts, name)) for name in _LESS}
        amounts = replace(amounts, **few)
    longest = int(episodes.num_frames.max()) - amounts.prompt
    if 0 < longest < amounts.steps:
        say(f"episodes are too short: dreaming {longest} steps instead of {amounts.steps}")
        amounts = replace(amounts, steps=longest)
    return amounts


def _model(config: FidelityConfig, world: LoadedWorld) -> WorldModel:
    """Return the world model with the requested sampling settings."""
    asked = {"steps": config.sampling_steps, "temperature": config.temperature}
    changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    return world.model.sampled(**changes)


def _clean(card: WorldCard) -> Picture:
    """Return the function to apply to frames before comparison; it covers any velocity map."""
    if not card.env_kwargs.get("velocity_map"):
        return as_it_is
    return lambda frames: torch.from_numpy(paint_over_velocity_map(frames.numpy()))


def _features(config: FidelityConfig) -> tuple[nn.Module | None, str]:
    try:
        return inception(config.fid_weights), ""
    except FidUnavailableError as reason:
        return None, str(reason)


if __name__ == "__main__":
    sys.exit(main())
