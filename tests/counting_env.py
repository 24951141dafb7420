"""A vector env whose every number is known: the frame shows a drawn number and the step count."""

from __future__ import annotations

import json

import numpy as np

from genie_gym.actions import ActionSet
from genie_gym.envs.rows import RowsOutcome
from genie_gym.envs.single import FrameEnv
from genie_gym.envs.vector import FrameVectorEnv

ACTIONS = ActionSet(name="count-3", meanings=("ADD-0", "ADD-1", "END"))


class CountingVectorEnv(FrameVectorEnv):
    """Action i < 2 adds i to the row's counter; action 2 terminates.

    Frame pixel 0 is the number drawn at the reset, pixel 1 the counter, pixel 2 the steps.
    """

    def __init__(self, num_envs, **kwargs):
        super().__init__(num_envs, actions=ACTIONS, kind="Test/Counting", frame_size=4, **kwargs)
        self.counters = np.zeros((num_envs, 3), np.int64)
        self.reseeded: list[int] = []

    def _rows_reseeded(self, rows):
        self.reseeded.extend(rows.tolist())

    def _begin_rows(self, rows, options):
        for row in rows:
            self.counters[row] = (self.np_random[row].integers(200), 0, 0)
        self._draw(rows)
        return {"drawn": self.counters[rows, 0].copy()}

    def _step_rows(self, rows, actions):
        self.counters[rows, 1] += actions % 2
        self.counters[rows, 2] += 1
        self._draw(rows)
        return RowsOutcome(
            rewards=(actions % 2).astype(float),
            terminated=actions == 2,
            truncated=np.zeros(len(rows), bool),
            infos={"count": self.counters[rows, 1].copy()},
        )

    def _save_row(self, row):
        return json.dumps(self.counters[row].tolist()).encode()

    def _load_rows(self, rows, state):
        self.counters[rows] = json.loads(state)

    def _draw(self, rows):
        self.frames[rows, 0, :3, 0] = self.counters[rows]


class CountingEnv(FrameEnv):
    """One row of the above."""

    def __init__(self, render_mode=None):
        super().__init__(CountingVectorEnv(1, autoreset_mode="Disabled", render_mode=render_mode))
