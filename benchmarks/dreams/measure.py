"""Measure a world model and collect all results in one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.dreams.events import Found, find_events
from benchmarks.dreams.fid import frechet_distance
from benchmarks.dreams.horizon import HORIZONS, Horizon, measure_horizon
from benchmarks.dreams.long_dream import LongDream, dream_long
from benchmarks.dreams.player import player_survival
from benchmarks.dreams.scores import KINDS, Clips, Picture, Scores, as_it_is, dream_clips, score
from benchmarks.dreams.survival import Survival, survival
from genie_gym.actions import ActionSet
from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.evaluation.scores import DELTA_STEP
from genie_gym.evaluation.windows import Windows, draw_windows
from world_models.episodes import EpisodeDataset

__all__ = ["Amounts", "Measured", "measure"]

COINRUN = "Procgen/CoinRun-v0"
SHORTEST_LONG = 100


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """Number of windows, dreams and frames to measure.

    Attributes:
        prompt: Number of real frames before a dream.
        steps: Number of frames to generate and compare.
        windows: Number of dreams to compare with real frames.
        horizon_windows: Number of dreams of 100 frames to compare with real frames; 0 for none.
        event_windows: Number of dreams in which to find rewards and terminations.
        long_dreams: Number of long dreams.
        long_frames: Number of frames of a long dream; 0 for no long dreams.
        tolerance: Steps by which a predicted event may be early or late.
        seed: Seed of every random choice.
    """

    prompt: int = 1
    steps: int = 10
    windows: int = 64
    horizon_windows: int = 64
    event_windows: int = 256
    long_dreams: int = 16
    long_frames: int = 1000
    tolerance: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("prompt", "steps", "windows", "event_windows", "long_dreams"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("tolerance", "horizon_windows"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.long_frames and self.long_frames < SHORTEST_LONG:
            raise ValueError(
                f"long_frames must be 0 (none) or at least {SHORTEST_LONG}, got {self.long_frames}"
            )

    @property
    def marks(self) -> tuple[int, int]:
        """Numbers of frames generated before other actions are tried: early and late in a dream."""
        return (0, self.long_frames * 9 // 10)


@dataclass(kw_only=True)
class Measured:
    """The measurements of a world model.

    Attributes:
        windows: The windows from real episodes.
        clips: The real, dreamed and other frames of the windows; see `Clips`.
        scores: Scores of the clips.
        speed: Dreamed frames per second; the time includes the prompts.
        tolerance: Steps by which a predicted event may be early or late.
        held: One dream per action, which repeats this action at every step, from the first window's
            prompt; uint8 ``(A, n, H, W, 3)``.
        fid: FID of the dream, the copy and the ceiling (see `Clips`); empty without a feature
            network.
        horizon: Scores of dreams of 100 frames, only in mode "stream"; None if not measured.
        events: Counts of rewards and terminations; only in mode "stream".
        long: The long dreams, only in mode "stream"; None if there are none.
        survival: Which frames of the long dreams are pictures of the game; None if this cannot
            be measured (see `survival`).
        player: In which frames of the long dreams CoinRun's player is whole and in its place; None
            for other games.
    """

    windows: Windows
    clips: Clips
    scores: Scores
    speed: float
    tolerance: int
    held: Tensor
    fid: dict[str, float] = field(default_factory=dict)
    horizon: Horizon | None = None
    events: dict[str, Found] = field(default_factory=dict)
    long: LongDream | None = None
    survival: Survival | None = None
    player: Survival | None = None

    def figures(self) -> dict[str, float]:
        """Return all results by name."""
        step = min(DELTA_STEP, self.windows.num_steps)
        found = self.scores.figures() | {
            "fid" if kind == "dream" else f"fid_{kind}": value for kind, value in self.fid.items()
        }
        if self.horizon is not None:
            found |= self.horizon.figures()
        for name, events in self.events.items():
            found |= events.figures(name)
        if self.long is not None:
            found |= self.long.figures(step)
        for survived in (self.survival, self.player):
            if survived is not None:
                found |= survived.figures()
        windows, steps = float(len(self.windows)), float(self.windows.num_steps)
        return found | {"frames_per_second": self.speed, "windows": windows, "steps": steps}


def measure(
    dreamer: Dreamer,
    episodes: EpisodeDataset,
    actions: ActionSet,
    amounts: Amounts,
    *,
    clean: Picture = as_it_is,
    features: nn.Module | None = None,
    outcomes: bool = True,
    say: Callable[[str], None] = print,
) -> Measured:
    """Measure a world model against episodes of its real env.

    Args:
        dreamer: Generates dreams with the world model, in the mode to measure.
        episodes: Real held-out episodes.
        actions: The world model's action set.
        amounts: Number of windows, dreams and frames.
        clean: Function applied to frames before they are compared.
        features: The feature network for FID; None skips FID.
        outcomes: Whether the model predicts rewards and terminations; if so, they are counted.
        say: Function called with each progress message.
    """
    prompt, steps, seed = amounts.prompt, amounts.steps, amounts.seed
    windows = draw_windows(episodes, num=amounts.windows, prompt=prompt, steps=steps, seed=seed)
    latent = dreamer.model.latent_action
    if latent is not None:
        windows = windows.with_latent_actions(latent)
    say(f"{len(windows)} dreams of {steps} steps, each with the true and with other actions")
    clips, speed = dream_clips(dreamer, windows, len(actions), seed, clean)
    measured = Measured(
        windows=windows,
        clips=clips,
        scores=score(clips),
        speed=speed,
        tolerance=amounts.tolerance,
        held=_held(dreamer, windows, len(actions)),
    )
    if features is not None:
        say("FID")
        measured.fid = {k: frechet_distance(features, clips.real, clips.of(k)) for k in KINDS}
    if dreamer.mode != "stream":
        return measured
    if amounts.horizon_windows:
        say(f"{amounts.horizon_windows} dreams of up to {HORIZONS[-1]} frames")
        measured.horizon = measure_horizon(
            dreamer, episodes, num=amounts.horizon_windows, prompt=prompt, seed=seed, clean=clean
        )
    if latent is None and outcomes:
        say(f"{amounts.event_windows} dreams for rewards and terminations")
        measured.events = find_events(
            dreamer,
            episodes,
            prompt=prompt,
            steps=steps,
            num=amounts.event_windows,
            tolerance=amounts.tolerance,
            seed=seed,
        )
    if amounts.long_frames:
        say(f"{amounts.long_dreams} dreams of {amounts.long_frames} frames")
        measured.long = dream_long(
            dreamer,
            windows.rows(torch.arange(min(amounts.long_dreams, len(windows)))),
            actions,
            num_frames=amounts.long_frames,
            marks=amounts.marks,
            steps=steps,
            seed=seed,
        )
        measured.survival = survival(measured.long.frames, episodes, clean)
        if any(entry.info.env_id == COINRUN for entry in episodes.entries):
            measured.player = player_survival(measured.long.frames, episodes)
    return measured


def _held(dreamer: Dreamer, windows: Windows, count: int) -> Tensor:
    """Generate one dream per action, which repeats that action at every step.

    All dreams start from the first window's prompt and use the same random numbers.
    """
    prompt = windows.prompt[:1].expand(count, -1, -1, -1, -1)
    held = torch.arange(count)[:, None].expand(-1, windows.num_steps)
    between = windows.actions[:1, : windows.num_prompt - 1].expand(count, -1)
    seeds = torch.zeros(count, dtype=torch.int64)
    return dreamer.dream(prompt, torch.cat((between, held), 1), seeds).frames
