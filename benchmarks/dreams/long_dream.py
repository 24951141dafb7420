"""What becomes of a dream that goes on and on, and whether it still obeys.

Shapes: B dreams, n frames, A actions, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genie_gym.actions import ActionSet
from genie_gym.collect.policies import sticky_plan
from world_models.evaluation.dreamer import Dreamer
from world_models.evaluation.metrics import differing, frame_psnr
from world_models.evaluation.windows import Windows
from world_models.inference.state import WorldState

__all__ = ["LongDream", "Obedience", "contrast", "dream_long", "each_action", "motion", "obedience"]

FLAT = 0.25  # of the real frames' usual contrast: below, a frame counts as flat
FROZEN = 50  # frames without any change after which a dream counts as frozen
LAST = 100  # frames at the end that are compared with the beginning
NUM_OTHERS = 4  # other action sequences that each dream branches into


@dataclass(frozen=True, kw_only=True)
class Obedience:
    """How much further other actions lead away than chance alone, for each step from a frame on.

    Attributes:
        psnr: In dB.
        pixels: In pixels of a frame that look different.
    """

    psnr: list[float]
    pixels: list[float]


@dataclass(frozen=True, kw_only=True)
class LongDream:
    """Long dreams, and what was seen in them.

    Attributes:
        frames: uint8 ``(B, n, H, W, 3)``.
        obedience: What other actions do, by the number of frames dreamed before.
        held: Each action held from there on, uint8 ``(A, m, H, W, 3)``, likewise.
        real_contrast: Usual contrast of real frames.
        real_motion: Mean motion of real play.
    """

    frames: Tensor
    obedience: dict[int, Obedience]
    held: dict[int, Tensor]
    real_contrast: float
    real_motion: float

    def figures(self, step: int) -> dict[str, float]:
        """The numbers of the benchmark; `step` is the number of steps of ``delta``."""
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
    """Dream for long under the sticky policy, and branch off at some frames.

    Args:
        dreamer: The world, in the mode "stream".
        windows: The beginnings, one for each dream.
        actions: The action set.
        num_frames: Frames to dream.
        marks: Numbers of frames after which other actions are tried: the start, and late.
        steps: Steps that are tried there.
        seed: Of the actions.
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
    """Try other actions from where dreams are.

    Every dream goes on with its `actions`; once more with the same actions but other random
    numbers; and with random actions and other random numbers. What counts is how much further
    from the first the third comes than the second: 0 for a dream that ignores its actions.

    Args:
        dreamer: The world, in the mode "stream".
        state: Where B dreams are; not used up.
        actions: int64 ``(B, n)``.
        num_actions: Size of the action set.
        seed: Of the random actions.
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
    """Hold each action from where one dream is: frames ``(A, n, H, W, 3)``, same random numbers."""
    index = torch.full((num_actions,), row, device=state.seeds.device)
    held = torch.arange(num_actions)[:, None].expand(-1, steps)
    return dreamer.follow(state.rows(index), held)[1]


def contrast(frames: Tensor) -> Tensor:
    """Standard deviation of each frame's grey levels ``(B, n)``."""
    return frames.float().mean(-1).flatten(2).std(-1)


def motion(frames: Tensor) -> Tensor:
    """Mean change from each frame to the next in grey levels ``(B, n - 1)``."""
    return (frames[:, 1:].float() - frames[:, :-1].float()).abs().mean((-3, -2, -1))


def _share_frozen(motions: Tensor) -> float:
    """The share of frames before which nothing had changed for `FROZEN` frames."""
    if motions.shape[1] < FROZEN:
        return float((motions == 0).all(1).float().mean())
    return float((motions.unfold(1, FROZEN, 1) == 0).all(-1).float().mean())
