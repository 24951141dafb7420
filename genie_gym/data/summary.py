"""Summarises a dataset as text."""

from __future__ import annotations

from collections import Counter

import numpy as np

from world_models.episodes import EpisodeDataset


def summary(dataset: EpisodeDataset) -> str:
    """Returns a summary of a dataset: sizes, rewards, policies and action counts.

    Raises:
        ValueError: If no episode can be read.
    """
    if not len(dataset):
        raise ValueError(
            f"no episode in {dataset.path} can be read; to list the damage, run: "
            f"genie-gym data verify {dataset.path}"
        )
    entries, frames = dataset.entries, int(dataset.num_frames.sum())
    rewards = np.array([entry.total_reward for entry in entries])
    size = dataset.num_bytes
    lines = [
        f"{dataset.path}",
        f"  episodes      {len(entries):,} ({dataset.num_frames.min()} to "
        f"{dataset.num_frames.max()} frames, median {np.median(dataset.num_frames):g})",
        f"  frames        {frames:,}",
        f"  on disk       {size:,} bytes in {dataset.num_shards} shards, "
        f"{size / frames:.0f} bytes per frame",
        f"  ends          {sum(e.terminated for e in entries):,} terminated, "
        f"{sum(e.truncated for e in entries):,} truncated",
        f"  reward        mean {rewards.mean():.3g} per episode, from {rewards.min():g} to "
        f"{rewards.max():g}; {np.mean(rewards != 0):.0%} of the episodes have a non-zero sum",
        f"  fingerprint   {dataset.fingerprint}",
    ]
    lines += _counted("env", Counter(entry.info.env_id for entry in entries))
    lines += _counted("policy", Counter(entry.info.policy for entry in entries))
    lines += _counted("code version", Counter(entry.info.code_version for entry in entries))
    return "\n".join(lines + _action_lines(dataset))


def _counted(title: str, counts: Counter[str]) -> list[str]:
    return [f"  {title:<13} {name}: {count:,} episodes" for name, count in counts.most_common()]


def _action_lines(dataset: EpisodeDataset) -> list[str]:
    counts: dict[tuple[str, tuple[str, ...]], np.ndarray] = {}
    for index, entry in enumerate(dataset.entries):
        action_set = (entry.info.action_set, entry.info.action_meanings)
        num_actions = len(entry.info.action_meanings)
        counts.setdefault(action_set, np.zeros(num_actions, np.int64))
        with dataset.skipping():
            counts[action_set] += np.bincount(dataset.actions(index), minlength=num_actions)
    lines = []
    for (name, meanings), histogram in counts.items():
        lines.append(f"  actions of {name}")
        for number, (meaning, count) in enumerate(zip(meanings, histogram, strict=True)):
            share = count / max(1, histogram.sum())
            bar = "#" * round(40 * share)
            lines.append(f"    {number:>2} {meaning:<14} {count:>10,} {share:6.1%} {bar}")
    return lines
