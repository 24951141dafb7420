"""The program that runs one emulator: `python -m genie_gym.envs.emulator CONFIG`.

stable-retro allows only one emulator per process, and an emulator that crashes ends its process. So
each row (sub-env) of a retro env has its own process, which runs this program. The program receives
commands on a socket, writes frames into memory shared with its parent, and ends when the parent
ends.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import signal
import socket
import struct
import sys
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genie_gym.envs.channel import Channel

__all__ = ["Emulator", "EmulatorConfig", "outcome_dtype", "unpacked"]

# Commands from the parent, except HELLO: it tells the parent the names of the game's variables.
HELLO, RESET, STEP, SAVE, LOAD, SCREEN, MEMORY = b"h", b"r", b"s", b"v", b"l", b"p", b"m"
SHAPE = struct.Struct("<HH")  # height and width of a screen

_HEADER_LENGTH = struct.Struct("<I")
_ORPHAN_CHECK_SECONDS = 2.0
_TRIAL_STEPS, _TRIAL_FRAMES = 30, 4


@dataclass(frozen=True, kw_only=True)
class EmulatorConfig:
    """Settings of an emulator process.

    Attributes:
        game: stable-retro's id for the game, e.g. ``"Kangaroo-Atari2600-v0"``; also the name of
            the game's folder.
        folder: Absolute path of the folder that contains the game's folder.
        state: Name of the start state; None for the console's power-on state.
        buttons: Names of the buttons that each action holds down.
        restricted: Whether to ignore the buttons that the scenario forbids, such as START.
        scripted: Whether a Lua script affects rewards or terminations.
        flicker: Whether the console draws sprites on alternate frames; a frame is then the
            pixelwise maximum of the last two screens.
        frame_skip: Number of emulated frames per step.
        frame_size: Height and width of the frames, in pixels.
        patience: Seconds after which the process ends itself if the emulator hangs.
    """

    game: str
    folder: str
    state: str | None
    buttons: tuple[tuple[str, ...], ...]
    restricted: bool
    scripted: bool
    flicker: bool
    frame_skip: int
    frame_size: int
    patience: float


def outcome_dtype(num_variables: int) -> np.dtype:
    """Returns the dtype of the answers to the commands RESET and STEP."""
    return np.dtype(
        [("reward", "<f8"), ("terminated", "?"), ("variables", "<i8", (num_variables,))]
    )


def unpacked(saved: bytes) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    """Splits a saved state into its header, screen, button history and emulator snapshot."""
    (length,) = _HEADER_LENGTH.unpack_from(saved)
    header = json.loads(saved[_HEADER_LENGTH.size :][:length])
    body = zlib.decompress(saved[_HEADER_LENGTH.size + length :])
    screen_end = math.prod(header["screen"])
    history_end = screen_end + header["history"]
    return header, body[:screen_end], body[screen_end:history_end], body[history_end:]


class Emulator:
    """A game running in this process, stepped by action index.

    It calls the parts of stable-retro's env directly, because that env's ``step`` copies the
    screen for each emulated frame. The results are the same.
    """

    def __init__(self, config: EmulatorConfig):
        import stable_retro
        from stable_retro.data import Integrations

        self.config = config
        state = stable_retro.State.NONE if config.state is None else config.state
        self._place = Integrations.CUSTOM_ONLY
        Integrations.add_custom_path(config.folder)
        self._env = stable_retro.RetroEnv(config.game, state, inttype=self._place, render_mode=None)
        self._em, self._data = self._env.em, self._env.data
        self._power_on: bytes = self._em.get_state()
        self._masks = [self._mask(names) for names in config.buttons]
        self._history: list[int] = []  # the button mask of each step of the episode
        self._saved: bytes | None = None  # the result of `save`, until the next step or reset
        self._exact_snapshots: bool | None = None
        self.variables: list[str] = sorted(self._data.lookup_all())
        self.screen: NDArray[np.uint8] = self._look()

    def reset(self) -> bytes:
        """Restores the start state and emulates one frame, as stable-retro does."""
        self._begin(self.config.state)
        self.screen = self._look()
        return self._outcome(0.0, False)

    def step(self, action: int) -> bytes:
        """Holds an action for `frame_skip` frames, or until the episode ends."""
        mask, before = self._masks[action], None
        self._history.append(mask)
        self._saved = None
        reward, terminated = self._hold(mask, self.config.frame_skip - 1)
        if not terminated:
            if self.config.flicker and self.config.frame_skip > 1:
                before = self._look()
            last_reward, terminated = self._hold(mask, 1)
            reward += last_reward
        self.screen = self._look()
        if before is not None and before.shape == self.screen.shape:
            self.screen = np.maximum(before, self.screen)
        return self._outcome(reward, terminated)

    def save(self) -> bytes:
        """Returns the state as bytes: the emulator's snapshot and the episode's actions.

        The actions are needed because snapshots can be incomplete. Some emulator cores omit
        parts of the console (stella omits paddles and the banks of some cartridges), and no core
        includes the reward scripts.
        """
        if self._saved is None:
            history = np.array(self._history, "<u2").tobytes()
            header = {
                "start": self.config.state,
                "frame_skip": self.config.frame_skip,
                "screen": self.screen.shape,
                "history": len(history),
            }
            packed = json.dumps(header).encode()
            body = self.screen.tobytes() + history + self._em.get_state()
            self._saved = _HEADER_LENGTH.pack(len(packed)) + packed + zlib.compress(body, 1)
        return self._saved

    def load(self, saved: bytes) -> bytes:
        """Restores a saved state: from its snapshot if that is exact, else by replaying actions.

        Returns:
            An error message; empty on success.
        """
        header, screen, history, snapshot = unpacked(saved)
        if header["frame_skip"] != self.config.frame_skip:
            return (
                f"this state was saved with frame_skip={header['frame_skip']}, "
                f"but the env has frame_skip={self.config.frame_skip}"
            ).encode()
        masks = np.frombuffer(history, "<u2").tolist()
        self._restore(header["start"], masks, snapshot)
        self._history = masks
        self.screen = np.frombuffer(screen, np.uint8).reshape(header["screen"])
        self._saved = saved
        return b""

    def show(self) -> bytes:
        """Returns the full screen, for rendering."""
        return SHAPE.pack(*self.screen.shape[:2]) + self.screen.tobytes()

    def memory(self) -> bytes:
        """Returns the console's working memory."""
        return self._env.get_ram().tobytes()

    def _begin(self, start: str | None) -> None:
        if start is not None:
            self._env.load_state(start, self._place)
        self._set(self._power_on if start is None else self._env.initial_state, frames=1)
        self._history = []
        self._saved = None

    def _set(self, snapshot: bytes, *, frames: int = 0) -> None:
        self._em.set_state(snapshot)
        self._em.set_button_mask(self._pressed(0))
        for _ in range(frames):
            self._em.step()
        self._data.reset()
        self._data.update_ram()  # rewards are computed from memory changes after this point

    def _hold(self, mask: int, frames: int) -> tuple[float, bool]:
        """Emulates up to `frames` frames; returns the reward and whether the episode terminated."""
        reward, terminated = 0.0, False
        self._em.set_button_mask(self._pressed(mask))
        while frames > 0 and not terminated:
            self._em.step()
            self._data.update_ram()
            reward += self._data.current_reward()
            terminated = bool(self._data.is_done())
            frames -= 1
        return reward, terminated

    def _restore(self, start: str | None, masks: list[int], snapshot: bytes) -> None:
        if self._exact_snapshots is None:
            self._exact_snapshots = not self.config.scripted and self._try_snapshots()
        if self._exact_snapshots:
            self._set(snapshot)
            return
        self._begin(start)
        for mask in masks:
            self._hold(mask, self.config.frame_skip)

    def _try_snapshots(self) -> bool:
        """Returns whether the game continues from a restored snapshot as if never interrupted."""
        rng = np.random.default_rng(0)
        masks = rng.choice(self._masks, size=2 * _TRIAL_STEPS).tolist()
        self._begin(self.config.state)
        self._trace(masks[:_TRIAL_STEPS])
        snapshot = self._em.get_state()
        expected = self._trace(masks[_TRIAL_STEPS:])
        self._set(snapshot)
        return self._trace(masks[_TRIAL_STEPS:]) == expected

    def _trace(self, masks: list[int]) -> list[bytes]:
        seen = []
        for mask in masks:
            self._hold(mask, _TRIAL_FRAMES)
            seen += [self._env.get_ram().tobytes(), self._look().tobytes()]
        return seen

    def _mask(self, names: tuple[str, ...]) -> int:
        """Returns the bit mask for some buttons."""
        mask = sum(1 << self._env.buttons.index(name) for name in names)
        return self._data.filter_action(mask) if self.config.restricted else mask

    def _pressed(self, mask: int) -> NDArray[np.uint8]:
        return np.array([mask >> place & 1 for place in range(self._env.num_buttons)], np.uint8)

    def _look(self) -> NDArray[np.uint8]:
        return self._env.get_screen(apply_rotation=True)

    def _outcome(self, reward: float, terminated: bool) -> bytes:
        values = self._data.lookup_all()
        variables = [values.get(name, 0) for name in self.variables]
        return struct.pack(f"<d?{len(variables)}q", reward, terminated, *variables)


def serve(config: EmulatorConfig, channel: Channel, frame: NDArray[np.uint8], parent: int) -> None:
    """Executes the parent's commands until the parent closes the channel or ends."""
    import cv2

    from genie_gym.envs.frames import fit_square

    cv2.setNumThreads(1)
    emulator = Emulator(config)
    channel.send(HELLO, json.dumps(emulator.variables).encode())

    def execute(kind: bytes, content: bytes) -> bytes:
        if kind in (RESET, STEP):
            answer = emulator.reset() if kind == RESET else emulator.step(content[0])
            frame[:] = fit_square(emulator.screen, config.frame_size)
            return answer
        if kind == LOAD:
            return emulator.load(content)
        if kind == MEMORY:
            return emulator.memory()
        return emulator.save() if kind == SAVE else emulator.show()

    while True:
        while not channel.wait(_ORPHAN_CHECK_SECONDS):
            if os.getppid() != parent:
                return
        kind, content = channel.receive()
        # If the core hangs, this timer ends the process even when the parent is gone.
        signal.setitimer(signal.ITIMER_REAL, config.patience)
        channel.send(kind, execute(kind, content))
        signal.setitimer(signal.ITIMER_REAL, 0)


def main(argument: str) -> None:
    """Runs the emulator process; the argument is JSON, made by `Worker`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    given: dict[str, Any] = json.loads(argument)
    config = EmulatorConfig(**given["config"])
    size = config.frame_size
    memory = mmap.mmap(given["frames"], 0)
    frame = np.frombuffer(memory, np.uint8, size * size * 3, given["row"] * size * size * 3)
    channel = Channel(socket.socket(fileno=given["socket"]))
    try:
        serve(config, channel, frame.reshape(size, size, 3), given["parent"])
    except (EOFError, ConnectionError):
        pass
    os._exit(0)  # some cores crash in their destructors


if __name__ == "__main__":
    main(sys.argv[1])
