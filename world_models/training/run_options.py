"""What to train on, as the command line takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from world_models.episodes import EpisodeDataset

__all__ = ["DataOptions", "DynamicsOptions"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What to train on, and where to put the run.

    Attributes:
        data: The dataset directory.
        out: The run's directory. The same command goes on with a run that was stopped.
        env_id: Use the episodes of this env alone.
        policy: Use the episodes of this policy alone.
        from_world: Fine-tune this world (name or path): the model is the world's, the loss and the
            optimisation are the recipe's.
        workers: Processes that read frames ahead.
        on_damage: Whether to stop at damaged data or to read around it.
        compile: Compile what gains by it, a minute or more at the start, for faster steps after:
            the loss, or on a CPU `world_models.kernels`, which needs a C++ compiler.
        wandb_project: Mirror the logs to this Weights & Biases project.
    """

    data: Path
    out: Path
    env_id: str | None = None
    policy: str | None = None
    from_world: Annotated[str | None, tyro.conf.arg(name="from")] = None
    workers: int = 0
    on_damage: Literal["refuse", "skip"] = "refuse"
    compile: bool = False
    wandb_project: str | None = None

    def episodes(self) -> EpisodeDataset:
        """The episodes asked for."""
        dataset = EpisodeDataset(self.data, on_damage=self.on_damage)
        chosen = dataset.select(env_id=self.env_id, policy=self.policy)
        if not len(chosen):
            raise ValueError(
                f"none of the {len(dataset)} episodes in {self.data} is of env {self.env_id} and "
                f"policy {self.policy}; `genie-gym data show {self.data}` lists what there is"
            )
        return chosen


@dataclass(frozen=True, kw_only=True)
class DynamicsOptions(DataOptions):
    """What to train a dynamics on.

    Attributes:
        tokenizer: A tokenizer run, or a world (name or path); by default that of `from_world`.
        latent_action: A latent action run or a world, to train on its latent actions in place of
            the true ones.
        outcome_only: Train the outcome head of `from_world` alone. Rewards and ends are rare: it
            gains from a large `events`, which would harm what is dreamed.
    """

    tokenizer: str | None = None
    latent_action: str | None = None
    outcome_only: bool = False
