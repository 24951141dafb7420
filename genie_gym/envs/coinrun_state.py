"""Reads and edits procgen's saved CoinRun states.

Procgen starts the next level inside the step that ends an episode, so it never draws the last
frame of an episode. To draw it, the last steps are replayed in a harmless copy of the game, which
cannot end. Until a game ends, it is identical to its harmless copy; the tests check this.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["agent_position", "drawn_cheaply", "drawn_like", "harmless", "without_clock"]

# Lengths of the fixed-length parts of a saved state, in 4-byte fields.
_OPTIONS = 17
_EPISODE = 15
_ENTITY = 31
_SCENE = 19
_VIEW = 9
_ENDING = 8  # seven fields of CoinRun itself, and the end mark
_END_MARK = 0xCAFECAFE

# Indices of the fields in these parts.
_VELOCITY_MAP, _MONOCHROME, _BACKGROUNDS = 0, 2, 4
_TIMEOUT = 4
_X, _Y, _RX, _RY, _TYPE, _IMAGE, _MARGIN = 0, 1, 4, 5, 6, 7, 12
_FIRE_TIME, _SPAWN_TIME, _EXPIRE_TIME, _FRICTION = 16, 17, 19, 21
_ALPHA, _HEALTH, _THETA, _GROW_RATE, _ALPHA_DECAY = 25, 26, 27, 28, 29
_VISIBILITY = 7

# Object types.
_COIN, _SAW, _ENEMY, _LAVA, _SPACE = 1, 2, 5, (17, 18), 100

_NEVER = 2**31 - 1
_BARELY_SEEN = 0.1  # cells across the image
_OUT_OF_REACH = -1000.0
_RENDER_EPS = 0.02  # procgen draws each cell of the grid this much larger on all sides


def agent_position(state: bytes) -> tuple[float, float]:
    """Returns the position of the first entity, the agent, in cells from the left and bottom."""
    at = 4
    (length,) = struct.unpack_from("<i", state, at)  # of the game's name
    at += 4 * (1 + _OPTIONS) + length
    for _ in range(2):  # random generators: a flag, then a string
        (length,) = struct.unpack_from("<i", state, at + 4)
        at += 8 + length
    at += 4 * (_EPISODE + 2)  # 2: the grid's size and the number of entities
    x, y = struct.unpack_from("<2f", state, at + 4 * _X)
    return x, y


def without_clock(state: bytes) -> bytes:
    """Returns a copy of the game that has no time limit."""
    layout = _Layout(state)
    layout.episode[_TIMEOUT] = _NEVER
    return layout.to_bytes()


def harmless(state: bytes) -> bytes:
    """Returns a copy that looks the same, but that time, saws, enemies, lava and coins cannot end.

    Saws and enemies get a negative collision margin. Lava gets a negated type, with which it is
    drawn the same but has no effect. The coin becomes an entity that is only drawn.
    """
    layout = _Layout(state)
    layout.episode[_TIMEOUT] = _NEVER
    harmful = np.isin(layout.entities[:, _TYPE], (_SAW, _ENEMY))
    layout.entities.view(np.float32)[harmful, _MARGIN] = _OUT_OF_REACH
    layout.grid[np.isin(layout.grid, _LAVA)] *= -1
    coins = [_coin_entity(column, row) for row, column in np.argwhere(layout.grid == _COIN)]
    layout.grid[layout.grid == _COIN] = _SPACE
    layout.entities = np.concatenate([*coins, layout.entities])
    return layout.to_bytes()


def drawn_cheaply(state: bytes) -> bytes:
    """Returns a copy of the game that is cheapest to draw; its frames are useless."""
    layout = _Layout(state)
    layout.options[[_VELOCITY_MAP, _MONOCHROME, _BACKGROUNDS]] = False, True, False
    layout.view.view(np.float32)[_VISIBILITY] = _BARELY_SEEN
    return layout.to_bytes()


def drawn_like(state: bytes, model: bytes) -> bytes:
    """Returns a copy of the game with the drawing settings of another state."""
    layout, source = _Layout(state), _Layout(model)
    layout.options[:] = source.options
    layout.view[_VISIBILITY] = source.view[_VISIBILITY]
    return layout.to_bytes()


class _Layout:
    """A saved state split into its parts: editable arrays of 32-bit fields."""

    def __init__(self, state: bytes):
        self._state = state
        self._position = 4
        self._skip_string()  # the game's name
        self._head = state[: self._position]
        self.options = self._fields(_OPTIONS)
        self._randomness = self._bytes_of(self._skip_generator, self._skip_generator)
        self.episode = self._fields(_EPISODE)
        self._grid_size = self._fields(1)
        (count,) = self._fields(1)
        self.entities = self._fields(count * _ENTITY).reshape(count, _ENTITY)
        self._scene = self._fields(_SCENE)
        self._assets = self._bytes_of(self._skip_generator)
        self.view = self._fields(_VIEW)
        self._grid_shape = self._fields(3)  # width, height, their product
        width, height, _ = self._grid_shape
        self.grid = self._fields(width * height).reshape(height, width)
        self._ending = self._fields(_ENDING)
        if self._position != len(state) or self._ending.view(np.uint32)[-1] != _END_MARK:
            raise RuntimeError(
                "the installed procgen2 does not have the state layout of version 0.10.7: "
                "run: pip install 'procgen2==0.10.7'"
            )

    def to_bytes(self) -> bytes:
        """Joins the parts back into a saved state."""
        parts = [
            self._head,
            self.options.tobytes(),
            self._randomness,
            self.episode.tobytes(),
            self._grid_size.tobytes(),
            struct.pack("<i", len(self.entities)),
            self.entities.tobytes(),
            self._scene.tobytes(),
            self._assets,
            self.view.tobytes(),
            self._grid_shape.tobytes(),
            self.grid.tobytes(),
            self._ending.tobytes(),
        ]
        return b"".join(parts)

    def _fields(self, count: int) -> NDArray[np.int32]:
        start = self._position
        self._position += 4 * int(count)
        return np.frombuffer(self._state[start : self._position], "<i4").astype(np.int32)

    def _skip_string(self) -> None:
        (length,) = struct.unpack_from("<i", self._state, self._position)
        self._position += 4 + length

    def _skip_generator(self) -> None:
        self._position += 4  # a flag: whether the generator was seeded
        self._skip_string()

    def _bytes_of(self, *skips: Callable[[], None]) -> bytes:
        start = self._position
        for skip in skips:
            skip()
        return self._state[start : self._position]


def _coin_entity(column: int, row: int) -> NDArray[np.int32]:
    """Returns an entity that is drawn exactly as procgen draws the coin in a cell of its grid."""
    floats = np.zeros(_ENTITY, np.float32)
    floats[[_X, _Y]] = column + 0.5, row + 0.5
    floats[[_RX, _RY]] = 0.5 + _RENDER_EPS
    floats[[_FRICTION, _ALPHA, _HEALTH, _GROW_RATE, _ALPHA_DECAY]] = 1
    floats[_THETA] = -100
    entity = floats.view(np.int32)
    entity[[_TYPE, _IMAGE]] = _COIN
    entity[[_FIRE_TIME, _SPAWN_TIME, _EXPIRE_TIME]] = -1
    return entity[None]
