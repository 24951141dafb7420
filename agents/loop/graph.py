"""The loop's stages: what is made of what, in two arms that differ only in who collects.

``explored`` collects with an AutoExplore agent that is trained anew in each round, on what the
world does not know by then; ``control`` collects as many frames at random. Both fine-tune the
tokenizer's decoder and the dynamics, and both are judged on a set that neither had a part in.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.explore import explore
from agents.loop.judge import judge
from agents.loop.recipes import LoopRecipe
from genie_gym.build import work
from genie_gym.build.stages import Stage
from genie_gym.collect.command import CollectConfig, collect
from world_models.episodes import EpisodeDataset, existing_indices
from world_models.files import write_json
from world_models.training.config import FitConfig
from world_models.training.run_options import DataOptions, DynamicsOptions

__all__ = ["ARMS", "Loop", "scores"]

ARMS = ("explored", "control")
_SCORE = 20
_TEST_SEED = 900_000  # of collections; rounds have the seeds below
_ARM_SEED = {"explored": 1_000, "control": 500_000}


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A loop in a folder.

    Attributes:
        recipe: The game and the sizes.
        out: The folder.
        rounds: How often to explore and learn.
        seed: Of everything.
        world: A world to begin with; by default one is trained on random play.
        test_data: The held-out set; by default an agent is trained on the game's own reward, and
            plays it.
    """

    recipe: LoopRecipe
    out: Path
    rounds: int = 1
    seed: int = 0
    world: str | None = None
    test_data: Path | None = None

    def stages(self) -> list[Stage]:
        """All stages, each after those it needs."""
        stages = [
            *self._test_set(),
            *self._first_world(),
            self._judging("judge", self._base(), () if self.world else ("world",)),
        ]
        for number in range(1, self.rounds + 1):
            for arm in ARMS:
                stages += self._round(arm, number)
        return stages

    # The parts -----------------------------------------------------------------------------

    def _test_set(self) -> list[Stage]:
        if self.test_data is not None:
            return []
        return [
            Stage(name="tester", needs=(), run=self._train_tester),
            Stage(name="test-data", needs=("tester",), run=self._collect_test),
        ]

    def _first_world(self) -> list[Stage]:
        if self.world is not None:
            return []
        data, out = self.out / "data" / "random", self.out
        training = self.recipe.training

        def tokenizer() -> bool:
            return self._tokenizer(data, out / "tokenizer", None, training.tokenizer.fit)

        def dynamics() -> bool:
            return self._dynamics(
                data, out / "dynamics", out / "tokenizer", None, training.dynamics.fit
            )

        def world() -> bool:
            return self._bundle(data, out / "tokenizer", out / "dynamics", Path(self._base()))

        def random() -> bool:
            recipe = self.recipe
            return self._collect(data, recipe.undirected, recipe.random_episodes, self.seed)

        return [
            Stage(name="random-data", needs=(), run=random),
            Stage(name="tokenizer", needs=("random-data",), run=tokenizer),
            Stage(name="dynamics", needs=("tokenizer",), run=dynamics),
            Stage(name="world", needs=("dynamics",), run=world),
        ]

    def _round(self, arm: str, number: int) -> list[Stage]:
        recipe, folder = self.recipe, self.out / arm / f"round-{number}"
        before = self._world(arm, number - 1)
        data = self.out / "data" / arm
        agent = folder / "agent"
        prefix = f"{arm}-{number}-"
        earlier = f"{arm}-{number - 1}-world" if number > 1 else "judge"
        collector = recipe.undirected if arm == "control" else str(agent)
        seed = self.seed + _ARM_SEED[arm] * number
        fits = recipe.training.tokenizer.fit, recipe.training.dynamics.fit

        def train_agent() -> bool:
            config = replace(
                recipe.explorer, out=agent, world=before, seed=seed, env_kwargs=recipe.env_kwargs
            )
            explore(config)
            return True

        def add_data() -> bool:
            return self._collect_frames(data, collector, number * recipe.round_frames, seed)

        def tokenizer() -> bool:
            fit = _shortened(fits[0], recipe.decoder_steps)
            return self._tokenizer(data, folder / "tokenizer", before, fit)

        def dynamics() -> bool:
            fit = _shortened(fits[1], recipe.dynamics_steps)
            return self._dynamics(data, folder / "dynamics", folder / "tokenizer", before, fit)

        def world() -> bool:
            after = Path(self._world(arm, number))
            return self._bundle(data, folder / "tokenizer", folder / "dynamics", after)

        agents = [Stage(name=f"{prefix}agent", needs=(earlier,), run=train_agent)]
        return [
            *(agents if arm == "explored" else []),
            Stage(
                name=f"{prefix}data",
                needs=(f"{prefix}agent",) if arm == "explored" else (earlier,),
                run=add_data,
            ),
            Stage(name=f"{prefix}tokenizer", needs=(f"{prefix}data",), run=tokenizer),
            Stage(name=f"{prefix}dynamics", needs=(f"{prefix}tokenizer",), run=dynamics),
            Stage(name=f"{prefix}world", needs=(f"{prefix}dynamics",), run=world),
            self._judging(f"{prefix}judge", self._world(arm, number), (f"{prefix}world",), data),
        ]

    def _judging(
        self, name: str, world: str, after: tuple[str, ...], learned: Path | None = None
    ) -> Stage:
        def run() -> bool:
            found = judge(world, self._test_data(), self.recipe.judging)
            if learned is not None:
                found["frames_learned"] = float(EpisodeDataset(learned).num_frames.sum())
            write_json(self.out / "scores" / f"{name}.json", found)
            return True

        tests = () if self.test_data else ("test-data",)
        return Stage(name=name, needs=(*tests, *after), run=run)

    # What stages are made of ---------------------------------------------------------------

    def _test_data(self) -> Path:
        return self.test_data or self.out / "data" / "test"

    def _base(self) -> str:
        return self.world or str(self.out / "worlds" / self.recipe.name)

    def _world(self, arm: str, number: int) -> str:
        if number == 0:
            return self._base()
        return str(self.out / arm / f"round-{number}" / self.recipe.name)

    def _train_tester(self) -> bool:
        kwargs = self.recipe.env_kwargs
        out = self.out / "tester"
        explore(replace(self.recipe.tester, out=out, seed=self.seed, env_kwargs=kwargs))
        return True

    def _collect_test(self) -> bool:
        tester = str(self.out / "tester")
        return self._collect(
            self._test_data(), tester, self.recipe.test_episodes, self.seed + _TEST_SEED
        )

    def _collect(self, data: Path, policy: str, episodes: int, seed: int) -> bool:
        return collect(self._collecting(data, policy, episodes, seed)) == 0

    def _collect_frames(self, data: Path, policy: str, frames: int, seed: int) -> bool:
        """Adds a score of episodes, and another, until `data` has so many frames."""
        owns = self._collecting(data, policy, _SCORE, seed).collection().owns
        done = len(existing_indices(data, where=owns))
        episodes = _SCORE * max(1, math.ceil(done / _SCORE))  # a score that was begun is finished
        while self._collect(data, policy, episodes, seed):
            if EpisodeDataset(data).num_frames.sum() >= frames:
                return True
            episodes += _SCORE
        return False

    def _collecting(self, data: Path, policy: str, episodes: int, seed: int) -> CollectConfig:
        return CollectConfig(
            env=self.recipe.env,
            out=data,
            policy=policy,
            episodes=episodes,
            max_steps=self.recipe.max_steps,
            seed=seed,
            epsilon=0.0 if policy == self.recipe.undirected else self.recipe.epsilon,
            env_kwargs=self.recipe.env_kwargs,
        )

    def _tokenizer(self, data: Path, out: Path, world: str | None, fit: FitConfig) -> bool:
        recipe = replace(self.recipe.training.tokenizer, fit=replace(fit, seed=self.seed))
        return work.train_tokenizer(recipe, DataOptions(data=data, out=out, from_world=world))

    def _dynamics(
        self, data: Path, out: Path, tokenizer: Path, world: str | None, fit: FitConfig
    ) -> bool:
        recipe = replace(self.recipe.training.dynamics, fit=replace(fit, seed=self.seed))
        options = DynamicsOptions(data=data, out=out, from_world=world, tokenizer=str(tokenizer))
        return work.train_dynamics(recipe, options)

    def _bundle(self, data: Path, tokenizer: Path, dynamics: Path, out: Path) -> bool:
        parts = {"tokenizer": tokenizer, "dynamics": dynamics}
        return work.bundle(out, data=data, storage=self.recipe.storage, **parts)


def scores(loop: Loop) -> list[dict[str, Any]]:
    """What was judged so far, one row for each world."""
    names = [stage.name for stage in loop.stages() if stage.name.endswith("judge")]
    files = {name: loop.out / "scores" / f"{name}.json" for name in names}
    return [
        {"world": name.removesuffix("judge").strip("-") or "first", **json.loads(file.read_text())}
        for name, file in files.items()
        if file.exists()
    ]


def _shortened(fit: FitConfig, steps: int) -> FitConfig:
    """The same optimisation for so many steps, with its warm-up and saves in proportion."""
    share = steps / fit.steps
    return replace(
        fit,
        steps=steps,
        warmup_steps=min(fit.warmup_steps, max(1, round(fit.warmup_steps * share))),
        save_every=min(fit.save_every, max(1, round(fit.save_every * share))),
    )
