"""Run policies in a dream and in the real game, from the same starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from agents.returns import Played, joined, play_out, rows_of
from benchmarks.players import Player
from genie_gym.actions import ActionSet
from genie_gym.collect.plans import PLANS
from genie_gym.collect.policies import Planned, Policy

__all__ = [
    "REAL_ROWS",
    "Returns",
    "Starts",
    "find_starts",
    "played_dreams",
    "played_real",
    "responds",
]

REAL_ROWS = 2  # rows (sub-envs) of the real env
PROMPT = 4  # real frames that dreams start from
TRIES = 20  # maximum number of attempts per start
RESPONSE_STEPS = 8  # steps within which some action must change the frame
RESPONSE_ACTIONS = 9  # maximum number of actions to try

Returns = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Starts:
    """S states of the real game from which policies are compared.

    Attributes:
        states: The real env's saved states.
        frames: The k frames up to each state, uint8 ``(S, k, H, W, 3)``.
        actions: The actions between the frames, ``(S, k - 1)``.
    """

    states: list[bytes]
    frames: NDArray[np.uint8]
    actions: NDArray[np.int64]

    def first(self, num: int) -> Starts:
        """Return the first `num` starts."""
        return Starts(
            states=self.states[:num], frames=self.frames[:num], actions=self.actions[:num]
        )


def find_starts(env: VectorEnv, num: int, seed: int) -> Starts:
    """Run the policy `sticky` in the real env, and save some of the env's states.

    States in which no action has an effect yet, such as a game's intro, are omitted, because no
    frame shows when an intro will end.
    """
    rng = np.random.default_rng(seed)
    actions: ActionSet = env.unwrapped.actions  # type: ignore[attr-defined]
    rows = env.num_envs
    states: list[bytes] = []
    frames: list[NDArray[np.uint8]] = []
    taken: list[list[int]] = []
    for _ in range(TRIES * num):
        if len(states) >= num:
            break
        first, _ = env.reset(seed=int(rng.integers(2**31)))
        shown, acts = [first], []
        plan = Planned(PLANS["sticky"](actions), rows, 400)
        for row in range(rows):
            plan.begin(row, rng)
        ended = np.zeros(rows, np.bool_)
        for _ in range(int(rng.integers(PROMPT, 200))):
            act = plan.act(shown[-1])
            newest, _, terminated, truncated, _ = env.step(act)
            shown.append(newest)
            acts.append(act)
            ended = terminated | truncated
            if ended.any():
                break
        if len(shown) < PROMPT:
            continue
        if not (alive := np.flatnonzero(~ended)).size:
            continue
        saved: list[bytes] = env.unwrapped.save_state()  # type: ignore[attr-defined]
        saved = [saved[alive[0] if over else row] for row, over in enumerate(ended)]
        for row in alive[responds(env, saved)[alive]]:
            states.append(saved[row])
            frames.append(np.stack([frame[row] for frame in shown[-PROMPT:]]))
            taken.append([int(act[row]) for act in acts[1 - PROMPT :]])
    if len(states) < num:
        raise ValueError(
            f"too few starts found: episodes of this game rarely have {PROMPT} frames followed by "
            "a state in which actions have an effect"
        )
    return Starts(states=states[:num], frames=np.stack(frames[:num]), actions=np.array(taken[:num]))


def responds(env: VectorEnv, states: list[bytes]) -> NDArray[np.bool_]:
    """Return, for each row, whether its next frames depend on the action that is repeated."""
    shown = []
    num_actions = int(env.single_action_space.n)  # type: ignore[attr-defined]
    for action in range(min(num_actions, RESPONSE_ACTIONS)):
        env.unwrapped.load_state(states)  # type: ignore[attr-defined]
        held, found = np.full(env.num_envs, action), []
        for _ in range(RESPONSE_STEPS):
            frames, _, terminated, truncated, _ = env.step(held)
            found.append(frames)
            if (ended := terminated | truncated).any():
                env.reset(options={"reset_mask": ended})
        shown.append(np.stack(found, 1))
    return np.any([frames != shown[0] for frames in shown], axis=(0, 2, 3, 4, 5))


def played_real(env: VectorEnv, starts: Starts, player: Player, seed: int, steps: int) -> Played:
    """Run a policy for one episode of the real game from each of the S starts."""
    parts, num = [], len(starts.states)
    for first in range(0, num, env.num_envs):
        places = range(first, first + env.num_envs)
        states = [starts.states[min(place, num - 1)] for place in places]
        frames = env.unwrapped.load_state(states)  # type: ignore[attr-defined]
        seeds = [seed + place for place in places]
        policy = player.make(env.num_envs, steps)
        parts.append(play_out(env, frames, policy, seeds=seeds, max_steps=steps))
    return rows_of(joined(parts), slice(num))


def played_dreams(
    env: VectorEnv, starts: Starts, players: Sequence[Player], seed: int, steps: int
) -> list[Played]:
    """Run each policy in a dream from each of the S starts, all in one batch.

    The env needs at least S rows (sub-envs) per player.
    """
    num, copies = len(starts.states), env.num_envs // len(starts.states)
    shown = [players[min(place, len(players) - 1)] for place in range(copies)]
    policy = SideBySide([player.make(num, steps) for player in shown], num)
    options = {
        "frames": np.concatenate([starts.frames] * copies),
        "actions": np.concatenate([starts.actions] * copies),
    }
    frames, _ = env.reset(seed=seed, options=options)
    seeds = [seed + start for start in range(num)] * copies
    played = play_out(env, frames, policy, seeds=seeds, max_steps=steps)
    return [rows_of(played, slice(i * num, (i + 1) * num)) for i in range(len(players))]


class SideBySide:
    """Combines several policies into one; each controls the same number of rows (sub-envs)."""

    def __init__(self, policies: Sequence[Policy], rows: int):
        self._policies, self._rows = policies, rows

    def begin(self, row: int, rng: np.random.Generator) -> None:
        """Begins an episode in a row, with the policy that controls this row."""
        self._policies[row // self._rows].begin(row % self._rows, rng)

    def act(self, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Returns the actions for all rows."""
        parts = np.split(frames, len(self._policies))
        acts = [policy.act(part) for policy, part in zip(self._policies, parts, strict=True)]
        return np.concatenate(acts)
