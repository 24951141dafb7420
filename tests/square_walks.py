"""Episodes of the square, as fidelity is measured on them, and what is known of their frames."""

from __future__ import annotations

from pathlib import Path

import torch

from genie_gym.actions import ActionSet
from genie_gym.evaluation.windows import Windows, draw_windows
from tests.square_world import MOVES, draw, play
from world_models.episodes import Episode, EpisodeDataset, EpisodeInfo, EpisodeWriter

ACTIONS = ActionSet(name="square-5", meanings=("STAY", "RIGHT", "LEFT", "DOWN", "UP"))
NUM, STEPS, SEED = 24, 6, 3


def write_walks(path: Path) -> EpisodeDataset:
    """Random walks of the square, each over when it reaches the goal."""
    torch.manual_seed(0)
    with EpisodeWriter(path) as writer:
        for index in range(40):
            actions = torch.randint(len(MOVES), (1, 50))
            cells, rewards = play(torch.randint(3, (1, 2)), actions)
            won = rewards[0].nonzero()
            length = int(won[0]) + 1 if len(won) else 50
            info = EpisodeInfo(
                env_id="Test/Square-v0",
                action_set=ACTIONS.name,
                action_meanings=ACTIONS.meanings,
                index=index,
            )
            episode = Episode(
                frames=draw(cells[0, : length + 1]).numpy(),
                actions=actions[0, :length].numpy(),
                rewards=rewards[0, :length].numpy(),
                terminated=len(won) > 0,
                truncated=not len(won),
                info=info,
            )
            writer.add(episode)
    return EpisodeDataset(path)


def windows_of(episodes, prompt: int = 2) -> Windows:
    return draw_windows(episodes, num=NUM, prompt=prompt, steps=STEPS, seed=SEED)


def where(frames: torch.Tensor) -> torch.Tensor:
    """The square's cell ``(..., 2)``, read off the frames."""
    index = (frames[..., ::4, ::4, 0] == 255).flatten(-2).int().argmax(-1)
    return torch.stack((index // 4, index % 4), -1)
