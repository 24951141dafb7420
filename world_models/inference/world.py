"""A world model as a simulator: start from frames, step with actions.

Shapes: B batch, k prompt frames, n generated frames, N tokens per frame, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.compiled import check_compiler, compiled_methods, settled
from world_models.dynamics import NO_ACTION, Dynamics
from world_models.latent_action import LatentActionModel
from world_models.next_frame import NextFrame, next_frame
from world_models.sampling import (
    FOR_CHANGES,
    Sample,
    SamplingConfig,
    entropy,
    revealing,
    sample_tokens,
)
from world_models.state import WorldState
from world_models.tokenizer import Tokenizer

__all__ = ["Prediction", "Rollout", "WorldModel"]


@dataclass(frozen=True)
class Prediction:
    """One frame into the future of B rows.

    Attributes:
        frames: uint8 ``(B, H, W, 3)``.
        tokens: int64 ``(B, N)``.
        entropy: Of each token's distribution before anything of the frame was known, in nats,
            ``(B, N)``.
        reward: Expected reward of the action, ``(B,)``.
        termination: Probability that the action ended the episode, ``(B,)``.
        passes: Passes that sampling took, ``(B,)``.
        surprise: Minus the logarithm of the probability that each token had been given, in nats,
            ``(B, N)``; None for imagined frames.
    """

    frames: Tensor
    tokens: Tensor
    entropy: Tensor
    reward: Tensor
    termination: Tensor
    passes: Tensor
    surprise: Tensor | None = None


@dataclass(frozen=True)
class Rollout:
    """Several frames into the future of B rows: see `Prediction`, with n frames at axis 1."""

    frames: Tensor
    tokens: Tensor
    entropy: Tensor


class WorldModel(nn.Module):
    """A tokenizer and a dynamics model that together imagine a game.

    Call ``eval()`` before use. A state is used up by the call it is given to, because its buffers
    are written in place: ``state.clone()`` first to come back to it.

    Args:
        tokenizer: Frames to tokens and back.
        dynamics: Tokens of the next frame.
        sampling: How tokens are drawn; by default as suits the tokenizer's.
        latent_action: The model that named the actions, if they are latent.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        dynamics: Dynamics,
        sampling: SamplingConfig | None = None,
        latent_action: LatentActionModel | None = None,
    ):
        super().__init__()
        t, d = tokenizer.config, dynamics.config
        if (t.grid, t.num_codes, t.code_dim) != (tuple(d.grid), d.num_codes, d.code_dim):
            raise ValueError(
                f"the tokenizer has grid {t.grid}, {t.num_codes} codes of width {t.code_dim}, the "
                f"dynamics {d.grid}, {d.num_codes}, {d.code_dim}; train the dynamics on tokens of "
                f"this tokenizer"
            )
        if d.frame_patch != (t.patch if t.context else 0):
            raise ValueError(
                f"the tokenizer's tokens {'say what changes' if t.context else 'stand alone'}, so "
                f"the dynamics must have frame_patch {t.patch if t.context else 0}, "
                f"not {d.frame_patch} (--model.frame-patch)"
            )
        self.tokenizer = tokenizer
        self.dynamics = dynamics
        self.latent_action = latent_action
        self.sampling = sampling or (FOR_CHANGES if t.context else SamplingConfig())

    @torch.no_grad()
    def start(
        self,
        frames: Tensor,
        actions: Tensor,
        seeds: Tensor | None = None,
        generator: torch.Generator | None = None,
        tokens: Tensor | None = None,
    ) -> WorldState:
        """Return the state after real frames.

        Args:
            frames: uint8 ``(B, k, H, W, 3)``, k >= 1.
            actions: int64 ``(B, k - 1)`` between them.
            seeds: int64 ``(B,)``: each row's future depends on its own seed alone.
            generator: Draws the seeds where none are given; torch's global one by default.
            tokens: int64 ``(B, k, N)``, as the tokenizer encodes the frames, where they are at
                hand. That halves the time; the state then has no encoder, and cannot `observe`.
        """
        batch, num_frames = frames.shape[:2]
        if actions.shape != (batch, num_frames - 1):
            raise ValueError(
                f"{num_frames} frames of {batch} rows need actions ({batch}, {num_frames - 1}), "
                f"got {tuple(actions.shape)}"
            )
        if seeds is None:
            seeds = _draw_seeds(batch, frames.device, generator)
        state = self._empty(seeds, frames[:, 0])
        for t in range(num_frames):
            action = torch.full_like(seeds, NO_ACTION) if t == 0 else actions[:, t - 1]
            ahead = None if t == 0 and self._shifted else self._look_ahead(state, action)
            if tokens is None:
                state, _ = self._see(state, ahead, frames[:, t])
            else:
                state, _ = self._become(state, ahead, _known(tokens[:, t]), frames[:, t])
        return state if tokens is None else replace(state, encoder=None)

    @torch.no_grad()
    def step(
        self, state: WorldState, action: Tensor, generator: torch.Generator | None = None
    ) -> tuple[WorldState, Prediction]:
        """Imagine the next frame.

        Args:
            state: Where the rows are; used up.
            action: int64 ``(B,)``.
            generator: Where given, draws new seeds for the rows first; else each row follows the
                seed it has.
        """
        if state.decoder is None:
            raise ValueError(
                "these rows gave up their decoder, so step() cannot show a frame; start() again, "
                "and keep the decoder"
            )
        counters = state.decoder.length
        if generator is not None:
            state = state.reseed(_draw_seeds(len(state), state.seeds.device, generator))
        ahead = self._look_ahead(state, action)
        sample = self.sample(ahead, state.seeds, counters)
        return self._become(replace(state, encoder=None), ahead, sample)

    def sample(self, ahead: NextFrame, seeds: Tensor, counters: Tensor) -> Sample:
        """Sample all tokens of the next frame; seeds and counters as `sample_tokens` has them."""
        hidden = seeds.new_full((len(seeds), self.tokenizer.num_tokens), self.dynamics.mask_token)
        run = partial(ahead.reveal, config=self.sampling)
        return sample_tokens(run, hidden, seeds, counters, self.sampling)

    @torch.no_grad()
    def observe(
        self, state: WorldState, action: Tensor, frames: Tensor
    ) -> tuple[WorldState, Prediction]:
        """Let the real next frame arrive, and say how it had been expected.

        The prediction's entropy is that of the imagined next frame before anything of the real
        one was seen; its tokens and frames are the real ones through the tokenizer.

        Args:
            state: Where the rows are, all by real frames; used up.
            action: int64 ``(B,)``, taken before.
            frames: uint8 ``(B, H, W, 3)``.
        """
        ahead = self._look_ahead(state, action)
        hidden = torch.full_like(state.tokens, self.dynamics.mask_token)
        logits = ahead.logits(hidden)
        state, seen = self._see(state, ahead, frames, entropy(logits))
        surprise = F.cross_entropy(logits.float().mT, seen.tokens, reduction="none")
        return state, replace(seen, surprise=surprise)

    @torch.no_grad()
    def rollout(self, frames: Tensor, actions: Tensor, seeds: Tensor | None = None) -> Rollout:
        """Imagine n frames one by one, streaming.

        Args:
            frames: uint8 ``(B, k, H, W, 3)``.
            actions: int64 ``(B, k - 1 + n)``.
            seeds: int64 ``(B,)``.
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
        """Imagine n frames as the paper evaluates, over the whole sequence at every pass.

        Args:
            frames: uint8 ``(B, k, H, W, 3)``.
            actions: int64 ``(B, k - 1 + n)``.
            seeds: int64 ``(B,)``.
            frames_per_call: How many frames are sampled jointly: all n by default (the paper's
                one_go), 2 in the paper's autoregressive mode.
        """
        num_prompt = frames.shape[1]
        if seeds is None:
            seeds = _draw_seeds(len(frames), frames.device, None)
        tokens, entropy = self.tokenizer.encode(frames, given=num_prompt), []
        while (left := actions.shape[1] + 1 - tokens.shape[1]) > 0:
            num = min(frames_per_call or left, left)
            before = self.before(tokens, frames, num)
            sample = self._sample_jointly(tokens, actions, before, seeds, num)
            tokens = torch.cat((tokens, sample.tokens), 1)
            entropy.append(sample.entropy)
        shown = self.tokenizer.decode(tokens, frames)[:, num_prompt:]
        return Rollout(shown, tokens[:, num_prompt:], torch.cat(entropy, 1))

    @torch.no_grad()
    def before(self, tokens: Tensor, given: Tensor, num_ahead: int) -> Tensor | None:
        """The frame before each of a sequence and of those to come, if that is looked at.

        Of several frames to come only the first one's is known, and stands for the others'.

        Args:
            tokens: Of the frames so far ``(B, k, N)``.
            given: The real ones of the first of them, uint8 ``(B, g, H, W, 3)``.
            num_ahead: How many are to come.
        """
        if not self.dynamics.config.frame_patch:
            return None
        dreamed = self.tokenizer.decode(tokens, given)[:, given.shape[1] :]
        shown = torch.cat((given, dreamed), 1)
        last = shown[:, -1:].expand(-1, num_ahead, -1, -1, -1)
        return torch.cat((given[:, :1], shown[:, :-1], last), 1)

    def sampled(self, **changes: Any) -> WorldModel:
        """The same weights, sampled otherwise; takes fields of `SamplingConfig`."""
        return self._of(self.tokenizer, self.dynamics, replace(self.sampling, **changes))

    def compiled(self) -> WorldModel:
        """The same weights as they are now, with a compiled `step`: faster, above all of few rows.

        Needs a C++ compiler on a CPU. The first steps at every new batch size then take up to some
        minutes, so it pays for long dreams at few batch sizes. Sums are then taken in an order
        that may depend on the batch size.
        """
        check_compiler(next(self.parameters()).device)
        dynamics = settled(self.dynamics, "token_table")
        dynamics.transformer = settled(self.dynamics.transformer, "space_bias")
        names = ("step", "finish", "reveal", "remember")
        for name, run in compiled_methods(self.dynamics, *names).items():
            setattr(dynamics, name, run)
        return self._of(self.tokenizer.compiled(), dynamics, self.sampling)

    def _of(self, tokenizer: Tokenizer, dynamics: Dynamics, sampling: SamplingConfig) -> WorldModel:
        return WorldModel(tokenizer, dynamics, sampling, self.latent_action).train(self.training)

    @property
    def _shifted(self) -> bool:
        return self.dynamics.config.objective == "paper"

    def _empty(self, seeds: Tensor, frames: Tensor) -> WorldState:
        batch = len(seeds)
        return WorldState(
            seeds=seeds,
            frames=frames,
            tokens=seeds.new_zeros(batch, self.tokenizer.num_tokens),
            dynamics=self.dynamics.transformer.open(batch),
            decoder=self.tokenizer.decoder.open(batch),
            encoder=self.tokenizer.encoder.open(batch),
        )

    def _look_ahead(self, state: WorldState, action: Tensor) -> NextFrame:
        return next_frame(self.dynamics, state.dynamics, state.tokens, action, state.frames)

    def _see(
        self,
        state: WorldState,
        ahead: NextFrame | None,
        frames: Tensor,
        entropy: Tensor | None = None,
    ) -> tuple[WorldState, Prediction]:
        if state.encoder is None:
            raise ValueError(
                "these rows have imagined frames that the encoder never saw; observe() needs rows "
                "of start() or observe(): start() again from the real frames"
            )
        tokens, encoder = self.tokenizer.encode_step(frames, state.encoder, state.frames)
        sample = _known(tokens, entropy)
        return self._become(replace(state, encoder=encoder), ahead, sample, frames)

    def _become(
        self,
        state: WorldState,
        ahead: NextFrame | None,
        sample: Sample,
        frames: Tensor | None = None,
    ) -> tuple[WorldState, Prediction]:
        """The state after a frame of these tokens; `frames` are the real ones, if they are."""
        decoder, shown = state.decoder, frames
        if decoder is not None:
            shown, decoder = self.tokenizer.decode_step(sample.tokens, decoder, state.frames)
        assert shown is not None
        reward = termination = torch.zeros(len(state), device=sample.tokens.device)
        dynamics = state.dynamics
        if ahead is not None:
            dynamics, reward, termination = ahead.commit(sample.tokens)
        state = replace(
            state,
            frames=shown if frames is None else frames,
            tokens=sample.tokens,
            dynamics=dynamics,
            decoder=decoder,
        )
        return state, Prediction(
            frames=shown,
            tokens=sample.tokens,
            entropy=sample.entropy,
            reward=reward,
            termination=termination,
            passes=sample.passes,
        )

    def _sample_jointly(
        self, tokens: Tensor, actions: Tensor, before: Tensor | None, seeds: Tensor, num: int
    ) -> Sample:
        """Sample ``num`` frames at once: tokens and entropy ``(B, num, N)``."""
        batch, seen, num_tokens = tokens.shape

        def predict(new: Tensor, rows: Tensor) -> Tensor:
            whole = torch.cat((tokens[rows], new.unflatten(1, (num, num_tokens))), 1)
            taken = actions[rows, : seen + num - 1]
            if self._shifted:
                x = self.dynamics.predict_shifted(whole[:, :-1], taken)
            else:
                x = self.dynamics.predict_plain(
                    whole, taken, None if before is None else before[rows]
                )
            return self.dynamics.to_logits(x[:, -num:]).flatten(1, 2)

        hidden = tokens.new_full((batch, num * num_tokens), self.dynamics.mask_token)
        counters = torch.full_like(seeds, seen)
        run = revealing(predict, self.sampling)
        sample = sample_tokens(run, hidden, seeds, counters, self.sampling)
        shape = (num, num_tokens)
        return replace(
            sample,
            tokens=sample.tokens.unflatten(1, shape),
            entropy=sample.entropy.unflatten(1, shape),
        )


def _known(tokens: Tensor, entropy: Tensor | None = None) -> Sample:
    """Tokens ``(B, N)`` that nobody had to sample."""
    entropy = torch.zeros(tokens.shape, device=tokens.device) if entropy is None else entropy
    return Sample(tokens, entropy, tokens.new_zeros(len(tokens)))


def _draw_seeds(num: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    return torch.randint(2**62, (num,), generator=generator).to(device)
