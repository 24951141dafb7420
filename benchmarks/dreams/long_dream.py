"""Measure whether long dreams stay stable and still follow their actions.

Shapes: B dreams, n frames, A actions, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genie_gym.actions import ActionSet
from genie_gym.collect.plans import sticky_plan
from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.evaluation.metrics import differing, frame_psnr
from genie_gym.evaluation.windows import Windows
from world_models.inference.state import WorldState

__all__ = ["LongDream", "Obedience", "contrast", "dream_long", "each_action", "motion", "obedience"]

FLAT = 0.25  # fraction of the usual real contrast below which a frame counts as flat
FROZEN = 50  # unchanged frames after which a dream counts as frozen
LAST = 100  # frames at the end that are compared with real frames
NUM_OTHERS = 4  # other action sequences tried in each dream


@dataclass(frozen=True, kw_only=True)
class Obedience:
    """Effect of other actions minus the effect of other random numbers, at each later step.

    Attributes:
        psnr: Effect in dB.
        pixels: Effect in changed pixels per frame.
    """

    psnr: list[float]
    pixels: list[float]


@dataclass(frozen=True, kw_only=True)
class LongDream:
    """Long dreams and their measurements.

    Attributes:
        frames: Dreamed frames, uint8 ``(B, n, H, W, 3)``.
        obedience: Effect of other actions, keyed by the number of frames generated before.
        held: Frames of one dream per action, which repeats this action from then on, uint8
            ``(A, m, H, W, 3)``, with the same keys.
        real_contrast: Median contrast of real frames.
        real_motion: Mean motion between real frames.
    """

    frames: Tensor
    obedience: dict[int, Obedience]
    held: dict[int, Tensor]
    real_contrast: float
    real_motion: float

    def figures(self, step: int) -> dict[str, float]:
        """Return the results by name; `step` is the step at which delta scores are taken."""
        contrasts, motions = contrast(self.frames), motion(self.frames)
        found = {
            "stability_frames": float(self.frames.shape[1]),
            "stability_contrast": float(contrasts[:, -LAST:].median()) / self.real_contrast,
            "stability_flat": float((contrasts < FLAT * self.real_contrast).float().mean()),
            "stability_frozen": _share_frozen(motions),
        }
        if self.real_motion:
            found["stability_motion"] = float(motions[:, -LAST:].mean()) / self.real_motion
        for when, obeyed in zip(("start", "late"), self.obedience.values(), strict=True):
            found[f"stability_delta{step}_psnr_{when}"] = obeyed.psnr[step - 1]
            found[f"stability_delta{step}_pixels_{when}"] = obeyed.pixels[step - 1]
        return found


def dream_long(
    dreamer: Dreamer,
    windows: Windows,
    actions: ActionSet,
    *,
    num_frames: int,
    marks: tuple[int, int],
    steps: int,
    seed: int,
) -> LongDream:
    """Generate many frames with the sticky policy, and try other actions at some of them.

    Args:
        dreamer: Generates dreams with the world model, in mode "stream".
        windows: The prompts, one for each dream.
        actions: The action set.
        num_frames: Number of frames to generate.
        marks: Numbers of generated frames after which other actions are tried.
        steps: Number of steps for which other actions are tried.
        seed: Seed of the actions.
    """
    rngs = [np.random.default_rng([seed, row]) for row in range(len(windows))]
    plan = sticky_plan(actions)
    chosen = torch.from_numpy(np.stack([plan(rng, num_frames + steps) for rng in rngs]))
    between = windows.actions[:, : windows.num_prompt - 1]
    state = dreamer.start(windows.prompt, between, windows.seeds)
    frames, obeyed, held, done = [], {}, {}, 0
    for mark in (*marks, num_frames):
        if mark > done:
            state, part = dreamer.follow(state, chosen[:, done:mark])
            frames.append(part)
            done = mark
        if mark < num_frames:
            ahead = chosen[:, mark : mark + steps]
            obeyed[mark] = obedience(dreamer, state, ahead, len(actions), seed)
            held[mark] = each_action(dreamer, state, 0, len(actions), steps)
    return LongDream(
        frames=torch.cat(frames, 1),
        obedience=obeyed,
        held=held,
        real_contrast=float(contrast(windows.frames).median()),
        real_motion=float(motion(windows.frames).mean()),
    )


def obedience(
    dreamer: Dreamer, state: WorldState, actions: Tensor, num_actions: int, seed: int
) -> Obedience:
    """Measure the effect of other actions on dreams in progress.

    Every dream is continued three times: with its `actions`; with the same actions but other random
    numbers; and with random actions and other random numbers. The effect is the distance
    between the third and the first dream minus the distance between the second and the first. It
    is 0 for a dream that ignores its actions.

    Args:
        dreamer: Generates dreams with the world model, in mode "stream".
        state: State of B dreams; it is not modified.
        actions: Actions of the dreams, int64 ``(B, n)``.
        num_actions: Size of the action set.
        seed: Seed of the random actions.
    """
    _, base = dreamer.follow(state.clone(), actions)
    others = state.reseed(state.seeds + 1)
    _, same = dreamer.follow(others.clone(), actions)
    generator = torch.Generator().manual_seed(seed)
    astray = [
        dreamer.follow(
            others.clone(), torch.randint(num_actions, actions.shape, generator=generator)
        )[1]
        for _ in range(NUM_OTHERS)
    ]

    def apart(measure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        others = torch.stack([measure(frames, base) for frames in astray]).mean(0)
        return (others - measure(same, base)).mean(0)

    return Obedience(
        psnr=(-apart(frame_psnr)).tolist(),
        pixels=apart(lambda a, b: differing(a, b).float().sum((-2, -1))).tolist(),
    )


def each_action(
    dreamer: Dreamer, state: WorldState, row: int, num_actions: int, steps: int
) -> Tensor:
    """Repeat each action in a copy of dream number `row`; return frames ``(A, n, H, W, 3)``.

    All copies use the same random numbers.
    """
    index = torch.full((num_actions,), row, device=state.seeds.device)
    held = torch.arange(num_actions)[:, None].expand(-1, steps)
    return dreamer.follow(state.rows(index), held)[1]


def contrast(frames: Tensor) -> Tensor:
    """Return the standard deviation of each frame's grey levels ``(B, n)``."""
    return frames.float().mean(-1).flatten(2).std(-1)


def motion(frames: Tensor) -> Tensor:
    """Return the mean change between consecutive frames in grey levels ``(B, n - 1)``."""
    return (frames[:, 1:].float() - frames[:, :-1].float()).abs().mean((-3, -2, -1))


def _share_frozen(motions: Tensor) -> float:
    """Return the fraction of frames that have not changed for `FROZEN` frames."""
    if motions.shape[1] < FROZEN:
        return float((motions == 0).all(1).float().mean())
    return float((motions.unfold(1, FROZEN, 1) == 0).all(-1).float().mean())
