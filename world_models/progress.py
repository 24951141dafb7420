"""Progress bars, which a listener can replace with its own display."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

from tqdm import tqdm

__all__ = ["Listener", "progress_bar", "shown_by"]

Listener = Callable[[float, float | None, str], None]
"""Called with the completed fraction, the remaining seconds (None if unknown) and a note."""

_listeners: list[Listener] = []


def progress_bar(**options: Any) -> tqdm:
    """Return a progress bar on the terminal; `options` are passed to `tqdm`.

    Inside a `shown_by` block, the bar is not drawn and only reports to the listener.
    """
    return _Told(_listeners[-1], **options) if _listeners else tqdm(**options)


@contextmanager
def shown_by(listener: Listener) -> Iterator[None]:
    """Report all progress inside the block to a listener, instead of drawing bars."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.pop()


class _Told(tqdm):
    """A bar that reports to a listener and is not drawn."""

    def __init__(self, listener: Listener, **options: Any):
        self._listener = listener
        super().__init__(**{**options, "file": StringIO(), "leave": False, "disable": False})

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Report to the listener."""
        if self.total:
            state = self.format_dict
            rate = state["rate"] or (self.n - self.initial) / max(state["elapsed"], 1e-9)
            left = (self.total - self.n) / rate if rate else None
            self._listener(self.n / self.total, left, self.postfix or "")
        return True

    def close(self) -> None:
        """Close the bar without drawing it."""
        self.disable = True
        self._decr_instances(self)
