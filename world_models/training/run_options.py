"""Command-line options for training runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from world_models.episodes import EpisodeDataset

__all__ = ["DataOptions", "DynamicsOptions"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data to train on, and the run's directory.

    Attributes:
        data: The dataset directory.
        out: The run's directory. To resume a stopped run, repeat the command.
        env_id: Use only episodes from this env; None uses the episodes of all envs.
        policy: Use only episodes that this policy collected; None uses all policies' episodes.
        from_world: Fine-tune this world model (name or path). The model to train comes from the
            world model; the loss and the optimisation come from the recipe. None trains a new
            model.
        workers: Number of threads that read frames ahead (tokens for a dynamics model).
        on_damage: Stop at damaged data ("refuse"), or skip damaged data ("skip").
        compile: Compile the loss. On a CPU, this compiles only the operations in
            `world_models.kernels`, and requires a C++ compiler. Compiling takes a minute or more at
            the start, and makes the steps faster.
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
        """Return the episodes that match the options."""
        dataset = EpisodeDataset(self.data, on_damage=self.on_damage)
        chosen = dataset.select(env_id=self.env_id, policy=self.policy)
        if not len(chosen):
            raise ValueError(
                f"none of the {len(dataset)} episodes in {self.data} matches --env-id "
                f"{self.env_id} and --policy {self.policy}; `genie-gym data show {self.data}` "
                "lists the envs and policies"
            )
        return chosen


@dataclass(frozen=True, kw_only=True)
class DynamicsOptions(DataOptions):
    """The data and models to train a dynamics model on.

    Attributes:
        tokenizer: A tokenizer run, or a world model (name or path). The default is the tokenizer of
            `from_world`.
        latent_action: A latent action run, or a world model, with which the dynamics model is
            trained on latent actions. None trains on the true actions.
        outcome_only: Train only the outcome head of `from_world`, which predicts reward and
            termination. Combine it with a large value of `events`: this helps the outcome head, but
            would make the frames worse if the whole model were trained.
    """

    tokenizer: str | None = None
    latent_action: str | None = None
    outcome_only: bool = False
