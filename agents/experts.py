"""Scripted players that know a game's rules, for ``genie-gym collect ENV --policy``.

They look only at the frames, so they can play both in the real game and in dreams of the game.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genie_gym.actions import ActionSet

__all__ = ["CoinRunRunner", "FreewayWalker", "PongTracker", "coinrun", "freeway", "pong"]

# Positions in a Pong frame, in pixels.
COURT = slice(12, 58)  # pixel rows between the walls
PADDLE = slice(49, 53)  # pixel columns of the player's paddle
FLIGHT = slice(14, 49)  # pixel columns between the two paddles
REACH = 1.5  # distance from the ball's height within which the paddle hits the ball

# Behaviour of the CoinRun player.
STUCK = 0.2  # the player is stuck if less than this fraction of the pixels changes
JUMP_RATES = (0.02, 0.15)  # range of the probability of a random jump at a step, drawn per episode
JUMP_STEPS = (4, 16)  # range of the number of steps for which JUMP is held
BACK_STEPS = (4, 12)  # range of the number of steps back after a failed jump

# Range of the probability of walking up at a step in Freeway, drawn per episode.
WALK_RATES = (0.3, 1.0)


class FreewayWalker:
    """Walks up with a probability drawn per episode; otherwise takes random other actions.

    Args:
        actions: An action set with UP.
        num_envs: Number of sub-envs, called rows.
    """

    def __init__(self, actions: ActionSet, num_envs: int):
        self._up = actions.meanings.index("UP")
        self._others = [action for action in range(len(actions)) if action != self._up]
        self._rate = np.zeros(num_envs)
        self._random = [np.random.default_rng(0)] * num_envs

    def begin(self, row: int, rng: np.random.Generator) -> None:
        """Starts an episode and draws its probability of walking up."""
        self._random[row], self._rate[row] = rng, rng.uniform(*WALK_RATES)

    def act(self, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Returns one action per row; ignores the contents of the frames."""
        return np.array([self._step(row) for row in range(len(frames))], np.int64)

    def _step(self, row: int) -> int:
        rng = self._random[row]
        return self._up if rng.random() < self._rate[row] else int(rng.choice(self._others))


class PongTracker:
    """Moves Pong's paddle to the height of the ball; plays as well as the game's opponent.

    Args:
        actions: An action set with UP and DOWN, and RIGHT, which does nothing in Pong.
        num_envs: Number of sub-envs, called rows.
    """

    def __init__(self, actions: ActionSet, num_envs: int):
        self._up, self._down, self._stay = map(actions.meanings.index, ("UP", "DOWN", "RIGHT"))
        self._height = np.full(num_envs, float(COURT.stop))

    def begin(self, row: int, rng: np.random.Generator) -> None:
        """Starts an episode; the paddle begins at the bottom."""
        self._height[row] = COURT.stop

    def act(self, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Returns one action per row for the newest frames ``(num_envs, 64, 64, 3)``."""
        red, green, blue = np.moveaxis(frames[:, COURT].astype(np.int64), -1, 0)
        paddle = _mean_row((green - np.maximum(red, blue))[:, :, PADDLE] > 20)
        ball = _mean_row(blue[:, :, FLIGHT] > 60)
        # An invisible paddle is behind the wall that it was last close to.
        middle = (COURT.start + COURT.stop) / 2
        hidden = np.where(self._height > middle, COURT.stop + 4.0, COURT.start - 4.0)
        self._height = np.where(np.isnan(paddle), hidden, paddle)
        apart = np.where(np.isnan(ball), 0.0, ball - self._height)
        return np.select([apart > REACH, apart < -REACH], [self._down, self._up], self._stay)


class CoinRunRunner:
    """Runs right, jumps when stuck and at random, and goes back after a failed jump.

    Args:
        actions: An action set with RIGHT, JUMP-RIGHT and LEFT.
        num_envs: Number of sub-envs, called rows.
    """

    def __init__(self, actions: ActionSet, num_envs: int):
        self._run, self._jump, self._back = map(
            actions.meanings.index, ("RIGHT", "JUMP-RIGHT", "LEFT")
        )
        self._action = np.full(num_envs, self._run)
        self._left = np.zeros(num_envs, np.int64)  # remaining steps of a jump or of going back
        self._rate = np.zeros(num_envs)
        self._random = [np.random.default_rng(0)] * num_envs
        self._fresh = np.ones(num_envs, bool)  # rows whose previous frame is from another episode
        self._previous: NDArray[np.uint8] | None = None

    def begin(self, row: int, rng: np.random.Generator) -> None:
        """Starts an episode and draws its probability of random jumps."""
        self._random[row], self._rate[row] = rng, rng.uniform(*JUMP_RATES)
        self._action[row], self._left[row], self._fresh[row] = self._run, 0, True

    def act(self, frames: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Returns one action per row for the newest frames ``(num_envs, 64, 64, 3)``."""
        before = frames if self._previous is None else self._previous
        stuck = ~self._fresh & ((frames != before).any(-1).mean((1, 2)) < STUCK)
        self._previous = frames.copy()
        self._fresh[:] = False
        self._left -= 1
        for row in np.flatnonzero(self._left <= 0):
            rng, failed = self._random[row], stuck[row] and self._action[row] == self._jump
            if failed:
                self._action[row], steps = self._back, BACK_STEPS
            elif stuck[row] or rng.random() < self._rate[row]:
                self._action[row], steps = self._jump, JUMP_STEPS
            else:
                self._action[row], steps = self._run, (1, 1)
            self._left[row] = rng.integers(*steps, endpoint=True)
        return self._action.copy()


def coinrun(actions: ActionSet, num_envs: int) -> CoinRunRunner:
    """Makes a `CoinRunRunner`."""
    return CoinRunRunner(actions, num_envs)


def freeway(actions: ActionSet, num_envs: int) -> FreewayWalker:
    """Makes a `FreewayWalker`."""
    return FreewayWalker(actions, num_envs)


def pong(actions: ActionSet, num_envs: int) -> PongTracker:
    """Makes a `PongTracker`."""
    return PongTracker(actions, num_envs)


def _mean_row(seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the mean height of the marked pixels in each frame; NaN if none are marked."""
    by_row = seen.sum(2)
    heights = np.arange(COURT.start, COURT.stop)
    with np.errstate(invalid="ignore"):
        return (by_row * heights).sum(1) / by_row.sum(1)
