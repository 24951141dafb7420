"""A model and data small enough to train in an instant."""

import numpy as np
import torch
from torch import nn

from world_models.episodes import WindowSampler
from world_models.training.config import FitConfig

CONFIG = FitConfig(
    steps=40,
    batch_size=4,
    learning_rate=3e-2,
    min_learning_rate=1e-3,
    warmup_steps=5,
    precision="fp32",
    save_every=10,
)


class Denoiser(nn.Module):
    """Predicts actions from themselves plus noise, so that the noise shows in the loss."""

    def __init__(self, num_actions=5, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Linear(num_actions, 16), nn.GELU(), nn.Linear(16, 5))

    def loss(self, batch):
        clean = nn.functional.one_hot(batch["actions"], 5).float()
        noise = [
            torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(int(seed)))
            for seed in batch["seeds"]
        ]
        logits = self.layers(clean + 0.3 * torch.stack(noise))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch["actions"].flatten())
        return loss, {"chance": torch.rand(())}


class Actions:
    """Random windows of random actions."""

    def __init__(self, batch_size=4):
        self.actions = np.random.default_rng(0).integers(5, size=(6, 40))
        self.sampler = WindowSampler(np.full(6, 40), length=8, batch_size=batch_size)

    def __iter__(self):
        for windows in self.sampler:
            rows = [self.actions[episode, start : start + 7] for episode, start in windows]
            yield {"actions": torch.from_numpy(np.stack(rows))}

    def state_dict(self):
        return self.sampler.state_dict()

    def load_state_dict(self, state):
        self.sampler.load_state_dict(state)
