"""Calls that every env refuses, as rules of a state machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import error
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

NO_ACTIONS = [-1, 99, 1.5, None, "JUMP", [], [0, 1], np.nan, np.array([[0]])]


class MalformedCalls(RuleBasedStateMachine):
    """Makes them on ``self.env``; the other rules tell whether it is as it was."""

    env: Any

    @rule(bad=st.sampled_from(NO_ACTIONS))
    def bad_action(self, bad):
        with pytest.raises((error.InvalidAction, error.ResetNeeded)):
            self.env.step(bad)

    @rule(data=st.binary(max_size=40))
    def bad_state(self, data):
        with pytest.raises(ValueError):
            self.env.load_state(data)
