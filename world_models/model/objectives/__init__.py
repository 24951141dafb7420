"""Training objectives: what a dynamics predicts from what, in training and in a dream."""

from world_models.model.objectives.base import NextFrame, Objective
from world_models.model.objectives.paper import Paper
from world_models.model.objectives.two_stream import TwoStream

__all__ = ["OBJECTIVES", "NextFrame", "Objective"]

OBJECTIVES: dict[str, Objective] = {"two_stream": TwoStream(), "paper": Paper()}
