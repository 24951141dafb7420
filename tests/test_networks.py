"""Feature extractors of agents."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.networks import HalfNatureCNN, NormalizedCNN

SPACE = spaces.Box(0, 255, (3, 64, 64), np.uint8)


def frames(seed: int) -> torch.Tensor:
    """A background with a pattern, and one bright pixel at a random place of each frame."""
    rng = np.random.default_rng(seed)
    found = np.tile(np.linspace(0.2, 0.6, 64, dtype=np.float32), (16, 3, 64, 1))
    found[np.arange(16), :, rng.integers(64, size=16), rng.integers(64, size=16)] = 1
    return torch.from_numpy(found)


@pytest.fixture
def trained() -> NormalizedCNN:
    torch.manual_seed(0)
    network = NormalizedCNN(SPACE, num_batches=50)
    for seed in range(50):
        network(frames(seed))
    return network


def test_frames_are_normalized_by_the_mean_and_deviation_of_training(trained):
    every = torch.cat([frames(seed) for seed in range(50)])
    assert torch.allclose(trained.mean, every.mean(0), atol=1e-5)
    deviation = (every - every.mean(0)).square().mean().sqrt()
    assert torch.allclose(trained.variance.sqrt(), deviation, rtol=0.05)
    plain = HalfNatureCNN(SPACE)
    plain.load_state_dict(trained.state_dict(), strict=False)
    normalized = (frames(99) - trained.mean) / (trained.variance.sqrt() + 1e-3)
    assert torch.equal(trained.eval()(frames(99)), plain(normalized))


def test_a_sprite_changes_the_features_more_than_without_normalizing(trained):
    plain = HalfNatureCNN(SPACE)
    plain.load_state_dict(trained.state_dict(), strict=False)
    spread = [network.eval()(frames(99)).std(0).mean() for network in (trained, plain)]
    assert spread[0] > 5 * spread[1]


def test_the_mean_frame_stays_after_enough_minibatches_and_outside_training(trained):
    mean = trained.mean.clone()
    trained(torch.ones(16, 3, 64, 64))
    assert torch.equal(trained.mean, mean)
    fresh = NormalizedCNN(SPACE).eval()
    fresh(frames(0))
    assert not fresh.mean.any() and fresh.variance == 1
