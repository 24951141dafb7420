"""A blind test in the browser: a person chooses which of two clips is closer to a real clip."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genie_gym.play.server import PAGE
from genie_gym.play.trials import Trial
from genie_gym.play.web import applications, responses, routing, staticfiles
from world_models.files import write_json

__all__ = ["BlindTest", "wilson_interval"]

_FPS = 15
_SIDES = ("left", "right")
_MAX_BODY = 1024
_Z = 1.959964  # 95% of a normal distribution lies within this many standard deviations


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's 95% confidence interval for a proportion; (0, 1) if there are no trials."""
    if not trials:
        return 0.0, 1.0
    share, z2 = successes / trials, _Z * _Z
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


class BlindTest:
    """Serves the web page for a blind test. The page does not know which source made a clip.

    Args:
        names: Names of the two sources.
        trials: The trials; each has its clips in the order of `names`.
        result: File to which all answers are written after each answer.
        seed: Seed for the order of the trials and the side on which each source appears.
    """

    def __init__(self, names: tuple[str, str], trials: Sequence[Trial], result: Path, seed: int):
        rng = np.random.default_rng(seed)
        self._names, self._result = names, result
        self._trials = [trials[at] for at in rng.permutation(len(trials))]
        self._swapped = rng.integers(2, size=len(trials)).astype(bool)
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked = time.monotonic()
        self.app = applications.Starlette(
            routes=[
                routing.Route("/", self._index),
                routing.Route("/trials", self._overview),
                routing.Route("/clips/{trial:int}/{which}", self._clip),
                routing.Route("/answers", self._answer, methods=["POST"]),
                routing.Mount("/page", staticfiles.StaticFiles(directory=PAGE)),
            ]
        )

    def summary(self) -> dict[str, Any]:
        """Return the results so far."""
        chosen = [answer["nearer"] for answer in self._answers.values()]
        first = sum(name == self._names[0] for name in chosen)
        return {
            "sources": list(self._names),
            "trials": len(self._trials),
            "answers": len(chosen),
            "nearer": {self._names[0]: first, self._names[1]: len(chosen) - first},
            "share_of_first": first / len(chosen) if chosen else None,
            "interval_95": list(wilson_interval(first, len(chosen))),
        }

    async def _index(self, request: Any) -> Any:
        return responses.FileResponse(PAGE / "blind.html")

    async def _overview(self, request: Any) -> Any:
        """Send the unanswered trials, so that a reloaded page can continue.

        After the last answer, send the result too.
        """
        frames = self._trials[0].real
        done = len(self._answers) == len(self._trials)
        return responses.JSONResponse(
            {
                "left": [at for at in range(len(self._trials)) if at not in self._answers],
                "trials": len(self._trials),
                "size": frames.shape[1],
                "fps": _FPS,
                "summary": self.summary() if done else None,
            }
        )

    async def _clip(self, request: Any) -> Any:
        number, which = request.path_params["trial"], request.path_params["which"]
        if number >= len(self._trials) or which not in ("real", *_SIDES):
            return responses.Response(status_code=404)
        trial = self._trials[number]
        clip = trial.real if which == "real" else trial.clips[self._source(number, which)]
        return responses.Response(clip.tobytes(), media_type="application/octet-stream")

    async def _answer(self, request: Any) -> Any:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MAX_BODY:
                return responses.Response("too long", status_code=413)
        try:
            given = json.loads(body)
            number, side = given["trial"], given["side"]
            known = type(number) is int and 0 <= number < len(self._trials) and side in _SIDES
        except (ValueError, KeyError, TypeError, RecursionError):
            known = False
        if not known:
            return responses.Response("expected a trial and a side", status_code=400)
        if number in self._answers:
            return responses.Response("this trial was answered already", status_code=409)
        self._record(number, side)
        return responses.JSONResponse({"answers": len(self._answers)})

    def _record(self, number: int, side: str) -> None:
        now = time.monotonic()
        sides = {name: self._names[self._source(number, name)] for name in _SIDES}
        self._answers[number] = {
            "trial": number,
            **sides,
            "chosen": side,
            "nearer": sides[side],
            "seconds": round(now - self._asked, 2),
        }
        self._asked = now
        write_json(self._result, self.summary() | {"given": list(self._answers.values())})

    def _source(self, number: int, side: str) -> int:
        """Return the index of the source that is shown on this side."""
        return _SIDES.index(side) ^ int(self._swapped[number])
