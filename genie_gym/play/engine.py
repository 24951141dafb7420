"""The thread that owns all sessions: it runs commands and steps the dreams that are due."""

from __future__ import annotations

import logging
import math
import secrets
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from genie_gym.play.commands import Command
from genie_gym.play.dreams import Dream, DreamRows
from genie_gym.play.library import Library
from genie_gym.play.line import Line
from genie_gym.play.recording import Recording
from genie_gym.play.session import Session, Viewer

__all__ = ["Engine"]

_LOG = logging.getLogger(__name__)
_TOGETHER = 0.004  # seconds; sessions that are due within this time are stepped in one batch
_SEEDS = 1000  # a session starts with a random seed below this number
_FILMS = 8  # number of film files kept for download per session
_EXPECTED = (ValueError, RuntimeError, OSError, ImportError)  # errors of other types are logged


class Engine:
    """Steps the dreams of all sessions in one thread.

    Slow work, such as loading a world model or writing a film, runs in a second thread, so that the
    other sessions can continue.

    Args:
        library: The world models, and the drivers (policies that play for the user).
        recordings: Folder with the datasets to which recordings are added.
        seed: Seed that sessions start with; None for a random seed.
    """

    def __init__(self, library: Library, recordings: Path, seed: int | None = None):
        self.library, self.recordings, self._seed = library, recordings, seed
        self.films = Path(tempfile.mkdtemp(prefix="genie-gym-play-"))
        self.sessions: dict[str, Session] = {}
        self._films: dict[str, list[Path]] = {}
        self._tasks: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._running = True
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="play-helper")
        self._thread = threading.Thread(target=self._run, name="play-engine", daemon=True)
        self._thread.start()

    # Called by any thread ------------------------------------------------------------------

    def open(self, name: str, viewer: Viewer) -> None:
        """Begin a session. `name` identifies the session in later calls."""
        self._do(lambda: self._open(name, viewer))

    def obey(self, name: str, command: Command) -> None:
        """Run a command that the web page sent."""
        self._do(lambda: self._obey(name, command))

    def end(self, name: str) -> None:
        """End a session: store the recording, close the real game and delete the films."""
        self._do(lambda: self._end(name))

    def close(self) -> None:
        """End all sessions, store their recordings, stop both threads and delete the films."""
        with self._wake:
            self._running = False
            self._wake.notify()
        self._thread.join()
        for name in list(self.sessions):
            self._end(name)
        self._helper.shutdown()
        shutil.rmtree(self.films, ignore_errors=True)

    # The thread --------------------------------------------------------------------------

    def _do(self, task: Callable[[], None]) -> None:
        with self._wake:
            self._tasks.append(task)
            self._wake.notify()

    def _run(self) -> None:
        while self._running:
            try:
                self._turn()
            except Exception:  # an error in one session must not end the others
                _LOG.exception("a session failed")

    def _turn(self) -> None:
        """Run the queued tasks, then step the sessions that are due, or wait if none is due."""
        while self._tasks:
            self._tasks.popleft()()
        now = time.monotonic() + _TOGETHER
        due = [session for session in self.sessions.values() if session.is_due(now)]
        if due:
            self._step(due, now)
        else:
            self._wait()

    def _wait(self) -> None:
        """Wait until a task arrives or the next session is due."""
        running = [s for s in self.sessions.values() if not s.paused and not s.opening and s.lines]
        first = min((session.next_due for session in running), default=math.inf)
        with self._wake:
            if not self._tasks and self._running:
                left = first - time.monotonic()
                self._wake.wait(None if left == math.inf else max(left, 0.001))

    def _step(self, due: list[Session], now: float) -> None:
        jobs: dict[DreamRows, list[tuple[Line, int]]] = {}
        stepped = []
        for session in due:
            try:
                wanted = session.begin_step(now)
            except Exception as fault:  # the real game's process has died, for example
                session.set_real(None)
                session.paused = True
                self._complain(session, fault)
                wanted = []
            jobs.setdefault(session.rows, []).extend(wanted)
            if wanted:
                stepped.append(session)
            else:
                session.show()
                self._store_finished(session)
        for rows, wanted in jobs.items():
            if not wanted:
                continue
            dreams = [line.player for line, _ in wanted if isinstance(line.player, Dream)]
            moments = rows.step(dreams, [action for _, action in wanted])
            for (line, action), moment in zip(wanted, moments, strict=True):
                line.add(action, moment)
        for session in stepped:
            session.end_step()
            session.show()
            self._store_finished(session)

    # Tasks -------------------------------------------------------------------------------

    def _open(self, name: str, viewer: Viewer) -> None:
        rows = self.library.rows(self.library.first)
        seed = secrets.randbelow(_SEEDS) if self._seed is None else self._seed
        session = Session(name, viewer, rows, seed)
        self.sessions[name] = session
        self._greet(session)

    def _greet(self, session: Session) -> None:
        session.viewer.tell({"hello": self.library.describe(session.rows)})
        session.show()

    def _end(self, name: str) -> None:
        session = self.sessions.pop(name, None)
        if session is not None:
            session.close()
            self._store_finished(session)
        for film in self._films.pop(name, []):
            film.unlink(missing_ok=True)

    def _obey(self, name: str, command: Command) -> None:
        session = self.sessions.get(name)
        if session is None:
            return
        try:
            self._command(name, session, command)
        except Exception as fault:
            self._complain(session, fault)
        session.show()
        self._store_finished(session)

    def _command(self, name: str, session: Session, command: Command) -> None:
        value = command.value
        if session.opening:
            raise ValueError("a world model, game or policy is loading; try again in a moment")
        if command.do == "act":
            session.act(command)
        elif command.do == "world":
            self._prepare(name, lambda: self.library.rows(value), self._change_world)
        elif command.do == "real" and value and session.real is None:
            rows, seed = session.rows, session.seed
            self._prepare(name, lambda: self.library.game(rows, seed), Session.set_real)
        elif command.do == "real" and not value:
            session.set_real(None)
        elif command.do == "driver" and value:
            rows = session.rows
            self._prepare(
                name,
                lambda: self.library.policy(value, rows),
                lambda session, policy: session.drive(value, policy),
            )
        elif command.do == "driver":
            session.drive("", None)
        elif command.do in ("step", "branch", "dream_on"):
            getattr(session, command.do)()
        elif command.do in ("pause", "speed", "reset", "rewind", "keep", "record"):
            getattr(session, command.do)(value)

    def _change_world(self, session: Session, rows: DreamRows) -> None:
        session.close()
        self._store_finished(session)
        changed = Session(session.name, session.viewer, rows, session.seed)
        self.sessions[session.name] = changed
        self._greet(changed)

    # The second thread ---------------------------------------------------------------------

    def _prepare(self, name: str, make: Callable[[], object], use: Callable) -> None:
        """Load a world model, game or policy in the second thread, then give it to the session."""
        self.sessions[name].opening = True

        def work() -> None:
            made: object = None
            fault: Exception | None = None
            try:
                made = make()
            except Exception as error:
                fault = error
            self._do(lambda: self._prepared(name, made, fault, use))

        self._helper.submit(work)

    def _prepared(self, name: str, made: object, fault: Exception | None, use: Callable) -> None:
        session = self.sessions.get(name)
        if session is None:  # the session has ended in the meantime
            close = getattr(made, "close", None)
            if close is not None:
                close()
            return
        session.opening = False
        if fault is not None:
            self._complain(session, fault)
        else:
            try:
                use(session, made)
            except Exception as error:
                self._complain(session, error)
        self.sessions[name].show()

    def _store_finished(self, session: Session) -> None:
        while session.finished:
            self._helper.submit(self._store, session, session.finished.pop())

    def _store(self, session: Session, recording: Recording) -> None:
        try:
            dataset = recording.store(self.recordings)
            if session.name not in self.sessions:
                return  # nobody is left to download a film
            stem = secrets.token_urlsafe(12)
            films = [self.films / f"{stem}.{suffix}" for suffix in ("gif", "mp4")]
            for film in films:
                recording.film(film)
        except Exception as fault:
            self._complain(session, fault)
            return
        gif, mp4 = (f"films/{film.name}" for film in films)
        told = {"frames": len(recording) + 1, "dataset": str(dataset), "gif": gif, "mp4": mp4}
        self._do(lambda: self._keep(session.name, films))
        session.viewer.tell({"film": told})

    def _keep(self, name: str, films: list[Path]) -> None:
        """Keep a session's newest films until the session ends; delete older films."""
        kept = self._films.setdefault(name, []) if name in self.sessions else []
        kept += films
        old = kept[:-_FILMS] if name in self.sessions else kept[:]
        for film in old:
            film.unlink(missing_ok=True)
            kept.remove(film)

    def _complain(self, session: Session, fault: Exception) -> None:
        if not isinstance(fault, _EXPECTED):
            _LOG.error("a session met an error", exc_info=fault)
        session.viewer.tell({"notice": str(fault) or type(fault).__name__})
