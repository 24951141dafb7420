"""A world model as a simulator: it starts from real frames, and actions step it.

A *row* is one batch item: rows are independent games.

Shapes: B batch, k prompt frames, n generated frames, N tokens per frame, H height, W width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.inference.prediction import Prediction, Rollout
from world_models.inference.sampling import Pass, Sample, entropy, sample_tokens
from world_models.inference.state import WorldState
from world_models.model.dynamics import Dynamics
from world_models.model.kv_cache import KVCache
from world_models.model.latent_action import LatentActionModel
from world_models.model.objectives import NextFrame, PaperFrame
from world_models.model.token_space import Clip, SamplingConfig
from world_models.tokenizers.base import Tokenizer

__all__ = ["WorldModel"]


class WorldModel(nn.Module):
    """A tokenizer and a dynamics model that together simulate a game.

    Call ``eval()`` before use. Methods overwrite the state that they receive, so do not use a state
    again after passing it to a method. To return to a state later, call ``state.clone()`` first.

    Args:
        tokenizer: Encodes frames to tokens, and decodes tokens to frames.
        dynamics: Predicts the tokens of the next frame.
        sampling: How tokens are sampled; by default the `sampling` of the tokenizer's token space.
        latent_action: The model that inferred the training actions, if actions are latent.
        rewards: The game's rewards; expected rewards are rounded to the nearest of them. Empty to
            return expected rewards as they are.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        dynamics: Dynamics,
        sampling: SamplingConfig | None = None,
        latent_action: LatentActionModel | None = None,
        rewards: Sequence[float] = (),
    ):
        super().__init__()
        if tokenizer.space != dynamics.space:
            raise ValueError(
                f"the tokenizer has the token space {tokenizer.space}, but the dynamics model was "
                f"built for {dynamics.space}; "
                "train the dynamics model on tokens from this tokenizer"
            )
        self.tokenizer = tokenizer
        self.dynamics = dynamics
        self.latent_action = latent_action
        self.sampling = sampling or tokenizer.space.sampling
        self.rewards = tuple(rewards)

    # Real frames ----------------------------------------------------------------------------

    @torch.no_grad()
    def start(
        self,
        frames: Tensor,
        actions: Tensor,
        seeds: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> WorldState:
        """Process real frames and return the state after them.

        Args:
            frames: The real frames, uint8 ``(B, k, H, W, 3)``, k >= 1. If the dynamics model has a
                `horizon` smaller than k, only the last `horizon` frames are used.
            actions: The actions between the frames, int64 ``(B, k - 1)``.
            seeds: A random seed for each row, int64 ``(B,)``; by default drawn at random. A row's
                random numbers depend only on the row's own seed.
            tokens: The frames' tokens, int64 ``(B, k, N)``; by default computed from the frames.
                Passing tokens halves the time, but the returned state then has no encoder cache
                and cannot be passed to `observe`.
        """
        batch, num_frames = frames.shape[:2]
        if actions.shape != (batch, num_frames - 1):
            raise ValueError(
                f"expected actions ({batch}, {num_frames - 1}) between {num_frames} frames of each "
                f"of the {batch} batch items, got {tuple(actions.shape)}"
            )
        if (horizon := self.dynamics.config.horizon) and num_frames > horizon:
            frames, actions = frames[:, -horizon:], actions[:, num_frames - horizon :]
            num_frames, tokens = horizon, None  # tokens depend on where a clip begins
        if seeds is None:
            seeds = _draw_seeds(batch, frames.device)
        state = self._empty_state(frames[:, 0], seeds)
        # Contiguous as in later steps, because compiled code expects one memory layout.
        actions = actions.T.contiguous()
        frame: NextFrame = self.dynamics.objective.first_frame(
            self._runner, state.dynamics, state.frames
        )
        for t in range(num_frames):
            if t > 0:
                state, frame = self._begin_next(state, actions[t - 1])
            if tokens is None:
                state, _ = self._see(state, frame, frames[:, t])
            else:
                state, _ = self._commit(
                    state, frame, _known(tokens[:, t].contiguous()), frames[:, t]
                )
        return state if tokens is None else replace(state, encoder=None)

    @torch.no_grad()
    def observe(
        self, state: WorldState, action: Tensor, frames: Tensor
    ) -> tuple[WorldState, Prediction]:
        """Observe the real next frame, and return how uncertain and surprised the model was.

        The returned entropy belongs to the prediction that the model made before it saw the frame.
        The returned tokens encode the real frame, and the returned frames are decoded from these
        tokens.

        Args:
            state: A state that has only seen real frames; do not use it again afterwards.
            action: The action that led to each frame, int64 ``(B,)``.
            frames: The real next frames, uint8 ``(B, H, W, 3)``.
        """
        state, frame = self._begin_next(state, action)
        masked = torch.full_like(state.tokens, self.dynamics.space.mask_token)
        logits = frame.logits(masked, torch.arange(len(masked), device=masked.device))
        state, seen = self._see(state, frame, frames, entropy(logits))
        surprise = F.cross_entropy(logits.float().mT, seen.tokens, reduction="none")
        return state, replace(seen, surprise=surprise)

    # Dreamed frames -------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, state: WorldState, action: Tensor) -> tuple[WorldState, Prediction]:
        """Imagine the next frame.

        Args:
            state: The current state; do not use it again afterwards.
            action: The action that each row takes, int64 ``(B,)``.
        """
        if state.decoder is None:
            raise ValueError(
                "this state has no decoder cache, so step() cannot decode a frame; create a new "
                "state with start(), and do not set its decoder to None"
            )
        state, frame = self._begin_next(state, action)
        assert state.decoder is not None
        sample = self.sample(frame, state.seeds, state.decoder.length)
        return self._commit(replace(state, encoder=None), frame, sample)

    def sample(self, frame: NextFrame, seeds: Tensor, counters: Tensor) -> Sample:
        """Sample all tokens of the next frame; see `sample_tokens`."""
        space, sampling, fused = self.dynamics.space, self.sampling, self._fused(frame)
        if isinstance(frame, PaperFrame) and (sampling.redraw or space.neutral is not None):
            # No pass sees tokens from earlier passes, so all draw from the same distribution.
            sampling = replace(sampling, steps=1)
        return sample_tokens(frame.logits, space, sampling, seeds, counters, fused=fused)

    @torch.no_grad()
    def rollout(self, frames: Tensor, actions: Tensor, seeds: Tensor | None = None) -> Rollout:
        """Imagine n frames one by one, with KV caches.

        Args:
            frames: The prompt, uint8 ``(B, k, H, W, 3)``.
            actions: The actions between the prompt's frames, then one action per imagined frame,
                int64 ``(B, k - 1 + n)``.
            seeds: A random seed for each row, int64 ``(B,)``; drawn at random by default.
        """
        num_between = frames.shape[1] - 1
        state = self.start(frames, actions[:, :num_between], seeds)
        predictions = []
        for action in actions[:, num_between:].unbind(1):
            state, prediction = self.step(state, action)
            predictions.append(prediction)
        return Rollout(
            *(torch.stack([getattr(p, f.name) for p in predictions], 1) for f in fields(Rollout))
        )

    @torch.no_grad()
    def imagine(
        self,
        frames: Tensor,
        actions: Tensor,
        seeds: Tensor | None = None,
        frames_per_call: int | None = None,
    ) -> Rollout:
        """Imagine n frames as in the paper's evaluation: each pass runs over the whole sequence.

        Args:
            frames: The prompt, uint8 ``(B, k, H, W, 3)``.
            actions: The actions between the prompt's frames, then one action per imagined frame,
                int64 ``(B, k - 1 + n)``.
            seeds: A random seed for each row, int64 ``(B,)``; drawn at random by default.
            frames_per_call: Number of frames that are sampled jointly. By default all n frames,
                which is the paper's "one_go" mode. The paper's autoregressive mode uses 2.
        """
        num_prompt = frames.shape[1]
        if seeds is None:
            seeds = _draw_seeds(len(frames), frames.device)
        tokens, entropies = self.tokenizer.encode(frames, num_prompt), []
        while (left := actions.shape[1] + 1 - tokens.shape[1]) > 0:
            num_ahead = min(frames_per_call or left, left)
            previous = self.previous_frames(tokens, frames, num_ahead)
            sample = self._sample_jointly(tokens, actions, previous, seeds, num_ahead)
            tokens = torch.cat((tokens, sample.tokens), 1)
            entropies.append(sample.entropy)
        shown = self.tokenizer.decode(tokens, frames)[:, num_prompt:]
        return Rollout(shown, tokens[:, num_prompt:], torch.cat(entropies, 1))

    @torch.no_grad()
    def previous_frames(self, tokens: Tensor, prompt: Tensor, num_ahead: int) -> Tensor | None:
        """Return the previous frame of each frame in a sequence.

        All future frames have the last known frame as their previous frame. Returns None if the
        dynamics model does not take the previous frame as input.

        Args:
            tokens: Tokens of the frames so far, ``(B, k, N)``.
            prompt: The first p of these frames, which are real, uint8 ``(B, p, H, W, 3)``.
            num_ahead: Number of future frames.
        """
        if not self.dynamics.space.patch:
            return None
        dreamed = self.tokenizer.decode(tokens, prompt)[:, prompt.shape[1] :]
        shown = torch.cat((prompt, dreamed), 1)
        last = shown[:, -1:].expand(-1, num_ahead, -1, -1, -1)
        return torch.cat((prompt[:, :1], shown[:, :-1], last), 1)

    def sampled(self, **changes: Any) -> WorldModel:
        """Return a copy that shares the weights, with some fields of `SamplingConfig` changed."""
        other = copy.copy(self)
        other.sampling = replace(self.sampling, **changes)
        return other

    def unrounded(self) -> WorldModel:
        """Return a copy that shares the weights and does not round expected rewards."""
        other = copy.copy(self)
        other.rewards = ()
        return other

    # Helpers ---------------------------------------------------------------------

    def _empty_state(self, frames: Tensor, seeds: Tensor) -> WorldState:
        """Return the state in which no frame has been processed yet.

        `frames` are the rows' first frames, uint8 ``(B, H, W, 3)``.
        """
        tokenizer, dynamics, batch = self.tokenizer, self.dynamics, len(frames)
        num_recent = min(self.sampling.carried_frames, dynamics.config.horizon)
        recent = frames[:, None].repeat(1, num_recent, 1, 1, 1)
        return WorldState(
            seeds=seeds,
            frames=frames,
            tokens=seeds.new_zeros(batch, tokenizer.space.num_tokens),
            dynamics=dynamics.transformer.empty_cache(batch),
            decoder=tokenizer.empty_cache(batch),
            encoder=tokenizer.empty_cache(batch),
            recent_frames=recent if num_recent else None,
            recent_actions=seeds.new_zeros(batch, num_recent - 1) if num_recent else None,
        )

    def _begin_next(self, state: WorldState, action: Tensor) -> tuple[WorldState, NextFrame]:
        """Begin the next frame.

        If the dynamics model has a `horizon`, rows that have used all position embeddings first
        start a new clip.
        """
        if self.dynamics.config.horizon:
            state = self._within_horizon(state).after_action(action)
        return state, self.dynamics.objective.next_frame(
            self._runner, state.dynamics, state.tokens, action, state.frames
        )

    def _within_horizon(self, state: WorldState) -> WorldState:
        """Start a new clip in each row that has no position embedding left for the next frame.

        The clip begins with the row's recent frames.
        """
        used = (state.dynamics.length >= self.dynamics.config.horizon).nonzero()[:, 0]
        if not len(used):
            return state
        assert state.recent_frames is not None and state.recent_actions is not None
        frames, actions = state.recent_frames[used], state.recent_actions[used]
        # The frame counter restarts at 0, so a new seed keeps random numbers from repeating.
        return state.put(used, self.start(frames, actions, state.seeds[used] + 1))

    @property
    def _runner(self) -> Any:
        """The object that runs the dynamics model; subclasses can return a compiled version."""
        return self.dynamics

    def _fused(self, frame: NextFrame) -> Pass | None:
        """Return a function that predicts and unmasks tokens in one call, or None."""
        return None

    def _decode(self, tokens: Tensor, cache: KVCache, previous: Tensor) -> tuple[Tensor, KVCache]:
        return self.tokenizer.decode_step(tokens, cache, previous)

    def _see(
        self, state: WorldState, frame: NextFrame, real: Tensor, entropy: Tensor | None = None
    ) -> tuple[WorldState, Prediction]:
        """Encode the real next frame and add it to the state."""
        if state.encoder is None:
            raise ValueError(
                "observe() requires a state made only from real frames, but a frame of this state "
                "was predicted by step(), or start() was given tokens: create a new state with "
                "start(), from frames alone"
            )
        tokens, encoder = self.tokenizer.encode_step(real, state.encoder, state.frames)
        sample = _known(tokens, entropy)
        return self._commit(replace(state, encoder=encoder), frame, sample, real)

    def _commit(
        self, state: WorldState, frame: NextFrame, sample: Sample, real: Tensor | None = None
    ) -> tuple[WorldState, Prediction]:
        """Add the frame with the tokens in `sample` to the state.

        `real` is the real frame, or None for an imagined frame.
        """
        decoder, shown = state.decoder, real
        if decoder is not None:
            shown, decoder = self._decode(sample.tokens, decoder, state.frames)
        assert shown is not None
        dynamics, reward, termination = frame.commit(sample.tokens)
        state = replace(state, tokens=sample.tokens, dynamics=dynamics, decoder=decoder)
        state = state.after_frame(shown if real is None else real)
        return state, Prediction(
            frames=shown,
            tokens=sample.tokens,
            entropy=sample.entropy,
            reward=self._rounded(reward),
            termination=termination,
            passes=sample.passes,
        )

    def _rounded(self, expected: Tensor) -> Tensor:
        """Round expected rewards ``(B,)`` to the rewards of the game, if they are given."""
        if not self.rewards:
            return expected
        known = expected.new_tensor(self.rewards)
        return known[(expected[:, None] - known).abs().argmin(1)]

    def _sample_jointly(
        self,
        tokens: Tensor,
        actions: Tensor,
        previous: Tensor | None,
        seeds: Tensor,
        num_ahead: int,
    ) -> Sample:
        """Sample the next `num_ahead` frames jointly.

        Returns tokens and entropy, each ``(B, num_ahead, N)``.
        """
        seen, shape = tokens.shape[1], (num_ahead, tokens.shape[2])

        def predict(new: Tensor, rows: Tensor) -> Tensor:
            clip = Clip(
                torch.cat((tokens[rows], new.unflatten(1, shape)), 1),
                actions[rows, : seen + num_ahead - 1],
                None if previous is None else previous[rows],
            )
            logits = self.dynamics.objective.joint_logits(self.dynamics, clip, num_ahead)
            return logits.flatten(1, 2)

        counters = torch.full_like(seeds, seen)
        space = self.dynamics.space
        sample = sample_tokens(predict, space, self.sampling, seeds, counters, num_ahead)
        return replace(
            sample,
            tokens=sample.tokens.unflatten(1, shape),
            entropy=sample.entropy.unflatten(1, shape),
        )


def _known(tokens: Tensor, entropy: Tensor | None = None) -> Sample:
    """Return known tokens ``(B, N)`` as a `Sample` that took 0 passes."""
    entropy = torch.zeros(tokens.shape, device=tokens.device) if entropy is None else entropy
    return Sample(tokens, entropy, tokens.new_zeros(len(tokens)))


def _draw_seeds(num: int, device: torch.device) -> Tensor:
    return torch.randint(2**62, (num,)).to(device)
