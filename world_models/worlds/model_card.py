"""Makes the README.md of a world bundle, which is also its model card on the Hugging Face Hub."""

from __future__ import annotations

import re

from world_models.worlds.card import WorldCard

__all__ = ["check_license", "model_card"]


def check_license(name: str) -> str:
    """Return a licence identifier; raise ValueError for any other text, such as a sentence."""
    if not re.fullmatch(r"[\w.+-]+", name):
        raise ValueError(f"a licence is an identifier such as mit or cc-by-4.0, got {name!r}")
    return name


def model_card(card: WorldCard, address: str | None = None) -> str:
    """Return the text of README.md: the use, limits, scores and origin of a world model.

    Args:
        card: The world's card. Its provenance may have a "license".
        address: Address from which the world can be pulled; None if it was not pushed.
    """
    license = card.provenance.get("license")
    scores = "\n".join(f"| {name} | {value:.4g} |" for name, value in card.scores.items())
    limits = "\n".join(f"* {limit}" for limit in _limits(card))
    provenance = "\n".join(f"* {name}: {value}" for name, value in card.provenance.items())
    pull = f"\n```bash\ngenie-gym worlds pull {address}\n```\n" if address else ""
    licensed = f"\nlicense: {license}" if license else ""
    return f"""---
library_name: genie-gym{licensed}
pipeline_tag: reinforcement-learning
tags: [world-model, gymnasium, reinforcement-learning]
---

# {card.name}

A world model of `{card.env_id}`: it generates {card.frame_size}x{card.frame_size} frames, rewards
and terminations from actions. It runs as a Gymnasium env with
[genie-gym](https://pypi.org/project/genie-gym/):
{pull}
```python
import gymnasium as gym
import genie_gym

env = gym.make("GenieRedux/{card.name}-v0")
```

Actions ({card.action_set}): {", ".join(card.action_meanings)}.

## Where not to trust it

{limits}

## Measured

| score | value |
|---|---|
{scores or "| nothing yet | |"}

## Provenance

{provenance or "* not recorded"}

Licence: {license or "not stated"}. Matrices are stored as {card.storage}. `genie-gym worlds verify`
checks every file.
"""


def _limits(card: WorldCard) -> list[str]:
    """Return sentences about the world's weaknesses, as far as the card knows them."""
    limits = [_play(card)]
    scores = card.scores
    if not card.outcomes:
        limits.append("It predicts neither rewards nor terminations.")
    else:
        limits += [_events(card, "reward", "rewards"), _events(card, "termination", "terminations")]
    if card.rounded_rewards:
        limits.append(
            "Rewards that it considers less likely than not are rounded away, so a dream pays too "
            "little when its frames do not show what happens."
        )
    if not scores:
        limits.append("Nothing was measured. Evaluate it before use: `genie-gym bench fidelity`.")
    for prefix, pixels in (("", "whole frames"), ("changed_", "changed pixels")):
        psnr, copy = scores.get(f"{prefix}psnr"), scores.get(f"{prefix}psnr_copy")
        if psnr is None or copy is None:
            continue
        better = "above" if psnr > copy else "not above"
        ceiling = scores.get(f"{prefix}psnr_ceiling")
        limits.append(
            f"PSNR over {pixels} is {psnr:.1f} dB, {better} the {copy:.1f} dB of repeating the "
            "last real frame"
            + ("." if ceiling is None else f"; its tokenizer alone reaches {ceiling:.1f} dB.")
        )
    limits.append(
        "Scores are of short dreams that start from real frames. Errors grow in long dreams."
    )
    return limits


def _play(card: WorldCard) -> str:
    data = card.provenance.get("data")
    known = "It has learned only from the play in its training data"
    if isinstance(data, dict) and {"policies", "episodes", "frames"} <= data.keys():
        policies = ", ".join(map(str, data["policies"]))
        known += f" ({policies}: {data['episodes']:,} episodes, {data['frames']:,} frames)"
    return f"{known}. After other behaviour, its predictions are guesses that an agent can exploit."


def _events(card: WorldCard, score: str, events: str) -> str:
    precision, recall = (card.scores.get(f"{score}_{kind}") for kind in ("precision", "recall"))
    if precision is None or recall is None:
        return f"How well it predicts {events} was not measured."
    return (
        f"Of the {events} that it predicts, {precision:.0%} are real; of the real {events}, it "
        f"predicts {recall:.0%}."
    )
