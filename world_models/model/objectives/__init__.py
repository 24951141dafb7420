"""Training objectives.

An objective defines what a dynamics model predicts, and from which inputs, in training and in
dreams. `TwoStream` documents the methods of an `Objective`, and `TwoStreamFrame` documents the
methods of a `NextFrame`.
"""

from world_models.model.objectives.one_pass import OnePass
from world_models.model.objectives.paper import FirstFrame, Paper, PaperFrame
from world_models.model.objectives.two_stream import TwoStream, TwoStreamFrame

__all__ = ["OBJECTIVES", "NextFrame", "Objective"]

Objective = TwoStream | OnePass | Paper
NextFrame = TwoStreamFrame | PaperFrame | FirstFrame
OBJECTIVES: dict[str, Objective] = {
    "two_stream": TwoStream(),
    "one_pass": OnePass(),
    "paper": Paper(),
}
