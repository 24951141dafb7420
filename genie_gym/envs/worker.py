"""Starts an emulator process and communicates with it, from the parent process."""

from __future__ import annotations

import json
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from dataclasses import asdict
from typing import IO

import numpy as np
from numpy.typing import NDArray

from genie_gym.envs.channel import Channel
from genie_gym.envs.emulator import EmulatorConfig
from genie_gym.errors import WorkerDiedError

__all__ = ["SharedFrames", "Worker"]

_TAIL_BYTES = 2000
_SECONDS_TO_END = 1.0


class SharedFrames:
    """Memory for the frames of all rows (sub-envs), shared with the emulator processes.

    The memory is anonymous, so it is freed no matter how the processes end.
    """

    def __init__(self, shape: tuple[int, ...]):
        if hasattr(os, "memfd_create"):
            self.fd = os.memfd_create("genie-gym-frames")
        else:
            with tempfile.TemporaryFile() as unnamed:
                self.fd = os.dup(unnamed.fileno())
        weakref.finalize(self, os.close, self.fd)
        size = math.prod(shape)
        os.ftruncate(self.fd, size)
        self.array: NDArray[np.uint8] = np.frombuffer(mmap.mmap(self.fd, size), np.uint8)
        self.array = self.array.reshape(shape)


class Worker:
    """An emulator process: `ask` sends a command, `answer` waits for the result.

    The constructor does not wait for the process, so several processes can start in parallel; the
    first `ask` waits for the start.

    Args:
        config: Settings for the emulator.
        frames: Memory that the process writes its frames into.
        row: Index of this worker's frame in `frames`.
        timeout: Seconds to wait for an answer before killing the process.
    """

    def __init__(self, config: EmulatorConfig, *, frames: SharedFrames, row: int, timeout: float):
        self._name = f"row {row} of RetroAct/{config.game}"
        self._timeout = timeout
        self._owner = os.getpid()
        self.variables: tuple[str, ...] | None = None
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        self._output: IO[bytes] = tempfile.TemporaryFile()
        argument = {
            "config": asdict(config),
            "row": row,
            "frames": frames.fd,
            "socket": theirs.fileno(),
            "parent": self._owner,
        }
        path = os.pathsep.join(filter(None, sys.path))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "genie_gym.envs.emulator", json.dumps(argument)],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=(theirs.fileno(), frames.fd),
                env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
            )
        self._deadline = 0.0
        self._end = weakref.finalize(
            self, _end, self._process, self._channel, self._output, self._owner
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process accepts commands."""
        return self._end.alive

    def check_owner(self) -> None:
        """Raises RuntimeError if called in a fork of the process that made the worker."""
        if os.getpid() != self._owner:
            raise RuntimeError(
                f"this env belongs to process {self._owner} and cannot be used in the forked "
                f"process {os.getpid()}: make a new env there"
            )

    def ask(self, kind: bytes, content: bytes = b"") -> None:
        """Waits for the process to start, then sends a command; `answer` returns its result.

        Raises:
            WorkerDiedError: If the process has ended, or does not accept the command in time.
        """
        if not self.alive:
            raise WorkerDiedError(f"{self._name} has ended: call reset() to start a new one")
        if self.variables is None:
            self._deadline = time.monotonic() + self._timeout
            self.variables = tuple(json.loads(self.answer()))
        self._deadline = time.monotonic() + self._timeout
        try:
            self._channel.send(kind, content, timeout=self._timeout)
        except TimeoutError:
            raise self._stuck() from None
        except OSError:
            raise self._dead() from None

    def answer(self) -> bytes:
        """Waits for the answer to the last command.

        Raises:
            WorkerDiedError: If the process ends, or does not answer in time.
        """
        try:
            _, content = self._channel.receive(
                timeout=max(0.001, self._deadline - time.monotonic())
            )
        except TimeoutError:
            raise self._stuck() from None
        except (EOFError, OSError):
            raise self._dead() from None
        return content

    def kill(self) -> None:
        """Kills the process."""
        if self._end.alive and os.getpid() == self._owner:
            self._process.kill()
        self._end()

    def disconnect(self) -> None:
        """Tells the process to end, without waiting; `close` waits."""
        self._channel.close()

    def close(self) -> None:
        """Ends the process; kills it if it does not end by itself."""
        self._end()

    def _stuck(self) -> WorkerDiedError:
        return self._died(f"did not answer within {self._timeout:g} s, so it was killed")

    def _dead(self) -> WorkerDiedError:
        try:
            status = self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            return self._died("closed its connection, so it was killed")
        if status < 0:
            return self._died(f"was killed by {_signal_name(-status)}")
        return self._died(f"ended with exit code {status}")

    def _died(self, how: str) -> WorkerDiedError:
        self._process.kill()
        size = os.fstat(self._output.fileno()).st_size
        tail = os.pread(self._output.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        output = tail.decode(errors="replace").strip()
        self._end()
        return WorkerDiedError(
            f"the emulator process {self._process.pid} ({self._name}) {how}. reset() starts a new "
            f"one. Its last output: {output or '(none)'}"
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end(process: subprocess.Popen[bytes], channel: Channel, output: IO[bytes], owner: int) -> None:
    """Closes a worker's channel and output, and ends its process.

    The process is left alone if this runs in a fork, that is, not in the process `owner`.
    """
    channel.close()
    output.close()
    if os.getpid() != owner:
        return
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
