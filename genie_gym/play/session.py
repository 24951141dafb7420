"""The session of one player. Only the engine's thread calls the methods of a session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch

from genie_gym.collect.policies import Policy
from genie_gym.evaluation.metrics import frame_psnr
from genie_gym.play.commands import WAIT, Command
from genie_gym.play.dreams import Dream, DreamRows
from genie_gym.play.line import DEPTH, Line
from genie_gym.play.moment import Moment
from genie_gym.play.packet import pack
from genie_gym.play.real_game import RealGame
from genie_gym.play.recording import MAX_FRAMES, Recording

__all__ = ["Session", "Viewer", "idle_action"]

PERSON = "a person"
_PROMPT = 4  # real frames that a dream starts from
_SPEED = 15  # frames per second of the real games


class Viewer(Protocol):
    """The receiver of a session's frames. Its methods never block."""

    def show(self, packet: bytes) -> None:
        """Show the newest frames in place of any frames that were not sent yet."""

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message."""


def idle_action(meanings: tuple[str, ...]) -> int:
    """Return the action for when no key is pressed: the one that most likely does nothing."""
    return next((meanings.index(name) for name in ("NOOP", "JUMP") if name in meanings), 0)


class Session:
    """A dream that a person plays, perhaps with a branch, the real game and a recording.

    Attributes:
        lines: The dream's history; after branching, the histories of the old and the new branch.
        real: The real game's history; None if the real game is off.
        finished: Recordings that have ended and wait to be stored.
    """

    def __init__(self, name: str, viewer: Viewer, rows: DreamRows, seed: int):
        self.name, self.viewer, self.rows, self.seed = name, viewer, rows, seed
        self.paused, self.opening, self.single, self.beyond = False, False, False, False
        self.fps, self.next_due = _SPEED, 0.0
        self.held = self.idle = idle_action(rows.world.card.action_meanings)
        self.tapped: int | None = None
        self.last_action = self.idle
        self.key = 0
        self.driver = ""
        self.policy: Policy | None = None
        self.real: Line | None = None
        self.recording: Recording | None = None
        self.finished: list[Recording] = []
        self.lines = [Line(rows.begin(seed))]
        self.parted = 0

    @property
    def live(self) -> Line:
        """The line that the player controls."""
        return self.lines[-1]

    # What a page asks for ------------------------------------------------------------------

    def act(self, command: Command) -> None:
        """Hold an action until the next command `act`; the newest key press counts."""
        if command.value >= len(self.rows.world.card.action_meanings):
            raise ValueError("this world model has no such action")
        if command.key > self.key and not self.paused and command.value not in (WAIT, self.idle):
            self.tapped = command.value  # a key that is released before the next frame still counts
        self.held, self.key = command.value, command.key

    def pause(self, on: bool) -> None:
        """Pause or continue. A dream can continue even if it has predicted the episode's end."""
        self.paused, self.beyond = on, not on

    def step(self) -> None:
        """Pause after one more frame."""
        self.paused = self.single = self.beyond = True

    def speed(self, fps: int) -> None:
        """Set the frames per second."""
        self.fps = fps

    def reset(self, seed: int) -> None:
        """Start again; if the real game is on, the dream starts from the game's first frame."""
        self.record(False)
        over = not self.lines or self.live.moment.ended
        self.seed = seed
        if self.real is not None:
            game = self.real.player
            assert isinstance(game, RealGame)
            game.begin(seed)
            self.real = Line(game)
            self.lines = [Line(self.rows.begin_from([game.last.frame], [], seed))]
        else:
            self.lines = [Line(self.rows.begin(seed))]
        self._begin_policy()
        self.paused, self.single, self.tapped = self.paused and not over, False, None

    def set_real(self, game: RealGame | None) -> None:
        """Add a real game and start the dream from the first real frame; None removes the game."""
        self.record(False)
        if self.real is not None:
            self.real.player.close()
        self.real = None if game is None else Line(game)
        if game is not None:
            self.reset(self.seed)

    def dream_on(self) -> None:
        """Start a new dream from the real game's current frame."""
        if self.real is None:
            raise ValueError("switch the real game on first")
        self.record(False)
        self.real.cut()
        frames, actions = self.real.recent(_PROMPT)
        dream = self.rows.begin_from(frames, actions, self.seed)
        dream.last = replace(dream.last, total=self.real.moment.total)
        self.lines = [Line(dream, self.real.now)]

    def rewind(self, frames: int) -> None:
        """Go to this many frames before the newest one, and pause."""
        number = max(self.live.end - frames, self.live.earliest)
        for line in self._all():
            line.seek(number)
        self.paused, self.single = True, False

    def branch(self) -> None:
        """Begin a second branch at the current moment; the player controls the second branch.

        The first branch keeps its later frames. If it has none, both branches get the same actions
        but use different random numbers.
        """
        if len(self.lines) > 1:
            raise ValueError("there are two branches already: keep one of them first")
        first = self.live
        self._undo_recorded(first.end - first.now)
        assert isinstance(first.player, Dream)
        second = first.fork(first.player.copy())
        if first.now == first.end:
            assert isinstance(second.player, Dream)
            second.player.reseed(self.seed + 1)
            second.mark()
        self.parted = first.now
        self.lines = [first, second]
        if self.real is not None:
            self.real.cut()
        self.paused = False

    def keep(self, index: int) -> None:
        """Keep one of the two branches; the real game follows the kept branch."""
        if len(self.lines) < 2:
            raise ValueError("there is only one branch")
        kept = self.lines[index]
        if index == 0:
            self.record(False)
            kept.cut()
            self._follow(kept)
        self.lines = [kept]

    def drive(self, name: str, policy: Policy | None) -> None:
        """Hand the controls to a policy, or back to the player."""
        self.driver, self.policy = name, policy
        self.held, self.tapped = self.idle, None
        self._begin_policy()

    def record(self, on: bool) -> None:
        """Begin a recording, or end the current recording so that it is stored."""
        if self.recording is not None and not on:
            if len(self.recording):
                self.finished.append(self.recording)
            self.recording = None
        if on and self.recording is None:
            self._cut()
            self.recording = self._recording()

    def close(self) -> None:
        """End the recording and free the real game."""
        self.record(False)
        if self.real is not None:
            self.real.player.close()

    # Steps -------------------------------------------------------------------------------

    def is_due(self, now: float) -> bool:
        """Return whether the session is due for its next frame."""
        if self.opening or not self.lines:
            return False
        return self.single or (not self.paused and now >= self.next_due)

    def begin_step(self, now: float) -> list[tuple[Line, int]]:
        """Choose the action and step the real game; return the dreams to step, with the action."""
        self.next_due = max(self.next_due + 1 / self.fps, now)
        single, self.single = self.single, False
        if self.live.moment.ended and not self.beyond:
            self.paused = True
            return []
        action = self._choose()
        if action == WAIT:
            if not single:
                return []
            action = self.idle
        self.last_action, self.beyond = action, False
        self._cut()
        if self.real is not None and not self.real.stopped and self.real.now == self.live.now:
            self.real.add(action, self.real.player.step(action))
            if self.recording is not None and self.recording.real is not None:
                self.recording.real.add(action, self.real.moment)
        return [(line, action) for line in self.lines if line is self.live or line.needs_step()]

    def end_step(self) -> None:
        """Record the step, and pause if the episode has ended. Call this after the dreams' step."""
        if self.recording is not None:
            self.recording.drivers.add(self.driver or PERSON)
            self.recording.dream.add(self.last_action, self.live.moment)
            if self.live.moment.ended or len(self.recording) >= MAX_FRAMES:
                self.record(False)
        if self.live.moment.ended:
            self.paused = True

    def show(self) -> None:
        """Send the current frames to the viewer."""
        if not self.lines:
            return
        dreams = [line.moment for line in self.lines]
        real = None if self.real is None else self.real.moment
        self.viewer.show(pack(self._header(dreams, real), dreams, real))

    # Helpers -----------------------------------------------------------------------------

    def _choose(self) -> int:
        if self.policy is not None:
            return int(self.policy.act(self.live.moment.frame[None])[0])
        tapped, self.tapped = self.tapped, None
        idle = self.held in (WAIT, self.idle)
        return tapped if tapped is not None and idle else self.held

    def _begin_policy(self) -> None:
        if self.policy is not None:
            self.policy.begin(0, np.random.default_rng(self.seed))

    def _cut(self) -> None:
        """Drop everything after the current moment, including in the recording."""
        undone = self.live.end - self.live.now
        self.live.cut()
        if self.real is not None:
            self.real.cut()
        self._undo_recorded(undone)
        self.parted = min(self.parted, self.live.now)

    def _undo_recorded(self, steps: int) -> None:
        """Drop the recording's last `steps` steps; if it has fewer, begin a new recording here."""
        if self.recording is not None and steps > len(self.recording):
            self.recording = self._recording()
        elif self.recording is not None:
            self.recording.undo(steps)

    def _follow(self, kept: Line) -> None:
        """Make the real game repeat the kept branch's actions; switch the game off if it cannot."""
        if self.real is None:
            return
        since = min(self.parted, kept.now)
        if since >= max(kept.earliest, self.real.earliest):
            self.real.follow(kept, since)
            return
        self.set_real(None)
        self.viewer.tell(
            {
                "notice": f"the branches parted more than {DEPTH} frames ago, too far back for "
                "the real game to follow the branch you kept: the real game is off"
            }
        )

    def _recording(self) -> Recording:
        return Recording(
            card=self.rows.world.card,
            seed=self.seed,
            fps=self.fps,
            dream=self.live.moment,
            real=None if self.real is None else self.real.moment,
        )

    def _all(self) -> list[Line]:
        return self.lines + ([] if self.real is None else [self.real])

    def _header(self, dreams: list[Moment], real: Moment | None) -> dict[str, Any]:
        live = self.live
        return {
            "now": live.now,
            "end": live.end,
            "earliest": live.earliest,
            "key": self.key,
            "action": self.last_action,
            "seed": self.seed,
            "paused": self.paused,
            "opening": self.opening,
            "fps": self.fps,
            "driver": self.driver,
            "recording": -1 if self.recording is None else len(self.recording),
            "dreams": [_numbers(moment) for moment in dreams],
            "real": None if real is None else _numbers(real) | {"psnr": self._psnr(real)},
        }

    def _psnr(self, real: Moment) -> float | None:
        """Return the dream's PSNR against the real game.

        It is None if they are at different moments or if their frames are equal.
        """
        assert self.real is not None
        same = np.array_equal(self.live.moment.frame, real.frame)  # the frame both began with
        if self.real.now != self.live.now or same:
            return None
        frames = [torch.from_numpy(moment.frame) for moment in (self.live.moment, real)]
        return round(float(frame_psnr(*frames)), 2)


def _numbers(moment: Moment) -> dict[str, Any]:
    return {
        "reward": round(moment.reward, 3),
        "total": round(moment.total, 3),
        "entropy": round(moment.entropy, 4),
        "ended": moment.ended,
    }
