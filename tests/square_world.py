"""A world small enough to be learned exactly: a bright square on a board of 4 x 4 cells."""

from __future__ import annotations

import torch
from torch import Tensor

MOVES = torch.tensor([[0, 0], [0, 1], [0, -1], [1, 0], [-1, 0]])  # stay, right, left, down, up
SIDE, CELL = 4, 4
GOAL = torch.tensor([3, 3])


def draw(cells: Tensor) -> Tensor:
    """Frames ``(..., 16, 16, 3)`` of the square at cells ``(..., 2)``."""
    board = torch.zeros(*cells.shape[:-1], SIDE * SIDE)
    index = (cells[..., 0] * SIDE + cells[..., 1])[..., None]
    board = board.scatter(-1, index, 1.0).unflatten(-1, (SIDE, SIDE))
    pixels = board.repeat_interleave(CELL, -1).repeat_interleave(CELL, -2)
    colour = torch.tensor([255, 200, 60])
    return (20 + pixels[..., None] * (colour - 20)).to(torch.uint8)


def play(cells: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Where the square goes from ``(B, 2)`` under ``(B, T)``: cells ``(B, T + 1, 2)``, rewards.

    It stops at the walls; every step that ends on the goal cell is worth 1.
    """
    path = [cells]
    for action in actions.unbind(1):
        path.append((path[-1] + MOVES[action]).clamp(0, SIDE - 1))
    cells = torch.stack(path, 1)
    return cells, (cells[:, 1:] == GOAL).all(-1).float()


def sample(batch: int, num_frames: int) -> dict[str, Tensor]:
    """Episodes under random actions, as models train on them; the goal is a termination."""
    actions = torch.randint(len(MOVES), (batch, num_frames - 1))
    cells, rewards = play(torch.randint(SIDE, (batch, 2)), actions)
    return {
        "frames": draw(cells),
        "actions": actions,
        "rewards": rewards,
        "terminated": rewards > 0,
    }
