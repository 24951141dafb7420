"""The world as a simulator: rows, states, seeds, sampling."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from tests.square_runs import motion
from world_models.inference.prediction import Prediction
from world_models.inference.sampling import Sample, sample_tokens
from world_models.inference.state import WorldState
from world_models.inference.world import WorldModel
from world_models.model.token_space import SamplingConfig, TokenSpace
from world_models.presets import build, tiny

PROMPT = 3


@pytest.fixture(scope="module", params=["two_stream", "one_pass", "paper", "motion"])
def world(request) -> WorldModel:
    torch.manual_seed(0)
    config = motion() if request.param == "motion" else tiny()
    if request.param in ("one_pass", "paper"):
        config = replace(config, dynamics=replace(config.dynamics, objective=request.param))
    world = build(config).eval()
    with torch.no_grad():  # an untrained head is all but certain of nothing; spread it out
        world.dynamics.to_logits.weight.mul_(4)
        world.dynamics.outcome.mlp[-1].weight.normal_()
    return world


def prompt(batch: int, num_frames: int = PROMPT) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    frames = torch.randint(
        256, (batch, num_frames, 16, 16, 3), generator=generator, dtype=torch.uint8
    )
    return frames, torch.randint(5, (batch, num_frames - 1), generator=generator)


def dream(world: WorldModel, state: WorldState, actions: Tensor) -> list[Prediction]:
    predictions = []
    for action in actions.unbind(1):
        state, prediction = world.step(state, action)
        predictions.append(prediction)
    return predictions


def tokens_of(predictions: list[Prediction]) -> Tensor:
    return torch.stack([p.tokens for p in predictions], 1)


ACTIONS = torch.randint(5, (4, 12), generator=torch.Generator().manual_seed(9))


def test_a_prediction_is_what_it_says(world):
    state = world.start(*prompt(4), seeds=torch.arange(4))
    state, prediction = world.step(state, ACTIONS[:, 0])
    assert prediction.surprise is None  # no real frame to be surprised by
    values = {f.name: getattr(prediction, f.name) for f in fields(prediction)}
    shapes = {name: tuple(x.shape) for name, x in values.items() if x is not None}
    assert shapes == {
        "frames": (4, 16, 16, 3),
        "tokens": (4, 16),
        "entropy": (4, 16),
        "reward": (4,),
        "termination": (4,),
        "passes": (4,),
    }
    assert prediction.frames.dtype == torch.uint8
    num_codes = world.dynamics.space.num_codes
    assert 0 <= prediction.tokens.min() and prediction.tokens.max() < num_codes
    most = torch.tensor(float(num_codes)).log()
    assert 0 < prediction.entropy.min() and prediction.entropy.max() <= most
    assert 0 < prediction.termination.min() and prediction.termination.max() < 1


def test_the_same_seeds_give_the_same_bits_and_others_do_not(world):
    def run(seeds: Tensor) -> Tensor:
        return tokens_of(dream(world, world.start(*prompt(4), seeds=seeds), ACTIONS))

    first = run(torch.arange(4))
    assert torch.equal(first, run(torch.arange(4)))
    other = run(torch.tensor([0, 1, 2, 77]))
    assert torch.equal(first[:3], other[:3]) and not torch.equal(first[3], other[3])


def test_a_rows_future_does_not_depend_on_its_company(world):
    frames, actions = prompt(4)
    seeds = torch.arange(4)
    together = dream(world, world.start(frames, actions, seeds=seeds), ACTIONS)
    order = torch.tensor([2, 0])
    apart = world.start(frames[order], actions[order], seeds=seeds[order])
    for one, two in zip(together, dream(world, apart, ACTIONS[order]), strict=True):
        assert torch.equal(one.tokens[order], two.tokens)
        torch.testing.assert_close(one.reward[order], two.reward, atol=1e-4, rtol=1e-4)


def test_with_a_threshold_rows_are_done_one_by_one_and_the_same_as_alone(world):
    sampling = SamplingConfig(steps=6, threshold=0.3)
    adaptive = WorldModel(world.tokenizer, world.dynamics, sampling).eval()
    frames, actions = prompt(16)
    seeds = torch.arange(16)
    ahead = torch.zeros(16, 4, dtype=torch.int64)
    together = dream(adaptive, adaptive.start(frames, actions, seeds), ahead)
    if world.dynamics.config.objective == "two_stream":
        assert any(len(prediction.passes.unique()) > 1 for prediction in together)
    for row in (0, 7, 8, 15):
        alone = slice(row, row + 1)
        state = adaptive.start(frames[alone], actions[alone], seeds[alone])
        for one, many in zip(dream(adaptive, state, ahead[alone]), together, strict=True):
            for name in ("tokens", "frames", "passes"):
                assert torch.equal(getattr(one, name), getattr(many, name)[alone]), name
            torch.testing.assert_close(one.entropy, many.entropy[alone], atol=1e-4, rtol=1e-4)


def test_frames_whose_tokens_are_known_start_the_same_dream(world):
    frames, actions = prompt(4)
    tokens, seeds = world.tokenizer.encode(frames, num_prompt=PROMPT), torch.arange(4)
    state = world.start(frames, actions, seeds, tokens=tokens)
    with pytest.raises(ValueError, match="observe"):
        world.observe(state, ACTIONS[:, 0], frames[:, 0])
    state = world.start(frames, actions, seeds, tokens=tokens)
    other = world.start(frames, actions, seeds)
    for one, two in zip(dream(world, state, ACTIONS), dream(world, other, ACTIONS), strict=True):
        assert torch.equal(one.frames, two.frames) and torch.equal(one.tokens, two.tokens)


def test_without_seeds_torch_draws_the_future(world):
    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.stack([one.tokens for one in dream(world, world.start(*prompt(4)), ACTIONS)])

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_a_clone_branches_without_a_trace(world):
    state = world.start(*prompt(4), seeds=torch.arange(4))
    state, _ = world.step(state, ACTIONS[:, 0])
    saved = state.clone()
    first = tokens_of(dream(world, state, ACTIONS[:, 1:]))
    for _ in range(2):
        again = tokens_of(dream(world, saved.clone(), ACTIONS[:, 1:]))
        assert torch.equal(first, again)
    reseeded = saved.clone().reseed(torch.arange(4) + 100)
    assert not torch.equal(first, tokens_of(dream(world, reseeded, ACTIONS[:, 1:])))


def test_a_state_survives_saving(world):
    state = world.start(*prompt(4), seeds=torch.arange(4))
    tensors = {name: x.clone() for name, x in state.tensors().items()}
    assert all(isinstance(x, Tensor) for x in tensors.values())
    expected = tokens_of(dream(world, state, ACTIONS))
    assert torch.equal(tokens_of(dream(world, WorldState.from_tensors(tensors), ACTIONS)), expected)
    with pytest.raises(ValueError, match="tensors"):
        WorldState.from_tensors({"seeds": tensors["seeds"]})


@pytest.mark.parametrize("age", [1, 5, 11])
def test_rows_can_be_taken_and_replaced_at_any_age(world, age):
    """A row put into a state of another age goes on as it would have at home."""
    frames, actions = prompt(4)
    old = world.start(frames, actions, seeds=torch.arange(4))
    for t in range(age):
        old, _ = world.step(old, ACTIONS[:, t])
    index = torch.tensor([1, 3])
    fresh = world.start(frames[:2, :1], actions[:2, :0], seeds=torch.tensor([50, 60]))
    kept = tokens_of(dream(world, old.clone(), ACTIONS))
    alone = tokens_of(dream(world, fresh.clone(), ACTIONS[index]))
    taken = tokens_of(dream(world, old.rows(torch.tensor([2, 2, 0])), ACTIONS[[2, 2, 0]]))
    assert torch.equal(taken, kept[[2, 2, 0]])
    mixed = tokens_of(dream(world, old.put(index, fresh), ACTIONS))
    assert torch.equal(mixed[[0, 2]], kept[[0, 2]])
    assert torch.equal(mixed[index], alone)


def test_streaming_start_equals_the_full_encoding(world):
    frames, actions = prompt(3, num_frames=12)
    state = world.start(frames, actions)
    assert torch.equal(state.tokens, world.tokenizer.encode(frames, num_prompt=12)[:, -1])


def test_observing_follows_the_real_frames(world):
    """The prediction's entropy is the dream's; what follows is the start from all the frames."""
    frames, actions = prompt(3, num_frames=6)
    seeds = torch.arange(3)
    state = world.start(frames[:, :2], actions[:, :1], seeds)
    for t in range(2, 6):
        dreamed = world.step(state.clone(), actions[:, t - 1])[1]
        state, seen = world.observe(state, actions[:, t - 1], frames[:, t])
        torch.testing.assert_close(seen.entropy, dreamed.entropy)
    whole = world.start(frames, actions, seeds)
    assert torch.equal(
        tokens_of(dream(world, state, ACTIONS[:3])), tokens_of(dream(world, whole, ACTIONS[:3]))
    )
    state, _ = world.step(world.start(frames, actions, seeds), actions[:, 0])
    with pytest.raises(ValueError, match="observe"):
        world.observe(state, actions[:, 0], frames[:, 0])


def test_observing_needs_no_pixels(world):
    frames, actions = prompt(3, num_frames=6)
    whole = world.start(frames[:, :2], actions[:, :1], torch.arange(3))
    blind = replace(whole.clone(), decoder=None)
    for t in range(2, 6):
        whole, seen = world.observe(whole, actions[:, t - 1], frames[:, t])
        blind, expected = world.observe(blind, actions[:, t - 1], frames[:, t])
        assert torch.equal(seen.entropy, expected.entropy)
        assert torch.equal(seen.reward, expected.reward)
        assert torch.equal(expected.frames, frames[:, t])
    mixed = whole.put(torch.tensor([1]), blind.rows(torch.tensor([1])))
    assert mixed.decoder is None and mixed.encoder is not None
    again = WorldState.from_tensors(blind.tensors())
    with pytest.raises(ValueError, match="decoder"):
        world.step(again, actions[:, 0])


def test_one_joint_frame_is_the_streamed_frame(world):
    """Sampling one frame over the whole sequence and against the cache is one computation."""
    frames, actions = prompt(4)
    actions = torch.cat((actions, ACTIONS[:, :1]), 1)
    streamed = world.rollout(frames, actions, seeds=torch.arange(4))
    joint = world.imagine(frames, actions, seeds=torch.arange(4))
    assert torch.equal(joint.tokens, streamed.tokens)
    torch.testing.assert_close(joint.entropy, streamed.entropy, atol=1e-4, rtol=1e-4)
    assert (joint.frames.int() - streamed.frames.int()).abs().max() <= 1


@pytest.mark.parametrize("frames_per_call", [None, 1, 2, 5])
def test_imagining_gives_as_many_frames_as_actions(world, frames_per_call):
    frames, actions = prompt(4)
    actions = torch.cat((actions, ACTIONS[:, :4]), 1)
    if world.dynamics.config.objective == "one_pass" and frames_per_call != 1:
        with pytest.raises(ValueError, match="one frame at a time"):
            world.imagine(frames, actions, torch.arange(4), frames_per_call)
        return
    rollout = world.imagine(frames, actions, torch.arange(4), frames_per_call)
    assert rollout.frames.shape == (4, 4, 16, 16, 3)
    assert rollout.tokens.shape == rollout.entropy.shape == (4, 4, 16)


def test_a_dream_goes_on_past_the_window(world):
    """Twenty frames on with a window of 8, streaming is still the full pass."""
    frames, actions = prompt(2, num_frames=2)
    actions = torch.cat((actions, ACTIONS[:2], ACTIONS[:2]), 1)[:, :22]
    world.sampling = replace(world.sampling, temperature=0.0)
    streamed = world.rollout(frames, actions, seeds=torch.arange(2))
    joint = world.imagine(frames, actions, torch.arange(2), frames_per_call=1)
    assert torch.equal(joint.tokens, streamed.tokens)


def test_parts_of_different_token_spaces_are_refused(world):
    other = build(replace(tiny(), tokenizer=replace(tiny().tokenizer, num_codes=33)))
    with pytest.raises(ValueError, match="train the dynamics model on tokens from this tokenizer"):
        WorldModel(world.tokenizer, other.dynamics)


def test_wrong_number_of_actions_is_named(world):
    frames, _ = prompt(2)
    with pytest.raises(ValueError, match=r"actions \(2, 2\)"):
        world.start(frames, torch.zeros(2, 3, dtype=torch.int64))


def test_bfloat16_worlds_dream(world):
    half = build(tiny()).eval().to(torch.bfloat16)
    rollout = half.rollout(*_with_actions(prompt(2)), seeds=torch.arange(2))
    assert rollout.tokens.shape == (2, 4, 16) and rollout.entropy.isfinite().all()


def _with_actions(prompt: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return prompt[0], torch.cat((prompt[1], ACTIONS[: len(prompt[0]), :4]), 1)


class Oracle:
    """Logits that are fixed, and a record of what was asked."""

    def __init__(self, probabilities: Tensor):
        self.logits = probabilities.log()
        self.asked: list[Tensor] = []

    def __call__(self, tokens: Tensor, rows: Tensor) -> Tensor:
        self.asked.append(tokens)
        return self.logits[rows]


def draw(oracle: Oracle, config: SamplingConfig, **space: int) -> Sample:
    batch, num_tokens, num_codes = oracle.logits.shape
    tokens = TokenSpace(grid=(1, num_tokens), num_codes=num_codes, code_dim=1, **space)
    seeds = torch.arange(batch)
    return sample_tokens(oracle, tokens, config, seeds, torch.zeros_like(seeds))


def test_rows_that_are_done_take_no_further_pass():
    sure = torch.full((4, 8, 2), 0.5)
    sure[2:] = torch.tensor([0.95, 0.05])
    oracle = Oracle(sure)
    sample = draw(oracle, SamplingConfig(steps=6, temperature=0, threshold=0.9))
    assert [len(tokens) for tokens in oracle.asked] == [4, 2, 2, 2, 2, 2]
    assert sample.passes.tolist() == [6, 6, 1, 1]
    assert sample.tokens.eq(0).all()


def test_passes_follow_the_schedule_and_unmask_the_most_certain_first():
    sure = torch.linspace(0.6, 0.99, 64)
    oracle = Oracle(torch.stack((sure, 1 - sure), -1)[None])
    sample = draw(oracle, SamplingConfig(steps=4, temperature=0.0))
    masked = [(asked == 2)[0] for asked in oracle.asked]
    assert [int(m.sum()) for m in masked] == [64, 59, 45, 24]
    for m in masked:
        assert m[: int(m.sum())].all()  # the uncertain ones, in front, wait
    assert torch.equal(sample.tokens, torch.zeros(1, 64, dtype=torch.int64))
    expected = -(sure * sure.log() + (1 - sure) * (1 - sure).log())
    torch.testing.assert_close(sample.entropy[0], expected)


def test_several_frames_follow_one_schedule():
    oracle = Oracle(torch.full((2, 12, 3), 1 / 3))
    space = TokenSpace(grid=(2, 2), num_codes=3, code_dim=1)
    zeros = torch.zeros(2, dtype=torch.int64)
    sample = sample_tokens(oracle, space, SamplingConfig(steps=2), zeros, zeros, num_frames=3)
    assert sample.tokens.shape == (2, 12) and sample.tokens.max() < 3
    assert [(asked == 3).sum(1).tolist() for asked in oracle.asked] == [[12, 12], [8, 8]]


def test_unmasked_tokens_never_change():
    torch.manual_seed(0)
    oracle = Oracle(torch.randn(8, 64, 10).softmax(-1))
    final = draw(oracle, SamplingConfig(steps=6, temperature=2.0)).tokens
    for asked in oracle.asked:
        known = asked != 10
        assert torch.equal(asked[known], final[known])


def test_temperature_draws_from_the_distribution_it_says():
    probabilities = torch.tensor([0.7, 0.2, 0.1])
    oracle = Oracle(probabilities.expand(400, 64, 3))
    config = SamplingConfig(steps=2, temperature=2.0)  # the first of two passes runs at 1
    sample = draw(oracle, config)
    first = oracle.asked[1]
    assert sample.passes.tolist() == [2] * 400
    # As many tokens as the schedule says are unmasked by the first pass.
    assert int((first != 3).sum(-1).unique()) == 64 - 45
    greedy = draw(oracle, SamplingConfig(steps=1)).tokens
    assert not greedy.any()
    drawn = draw(oracle, SamplingConfig(steps=2, temperature=2.0, threshold=0.0)).tokens
    share = torch.bincount(drawn.flatten(), minlength=3) / drawn.numel()
    torch.testing.assert_close(share, probabilities, atol=0.01, rtol=0)


def test_where_a_token_is_neutral_what_is_rare_is_drawn_as_often_as_it_is():
    sure = torch.linspace(0.6, 0.9, 64)
    oracle = Oracle(torch.stack((sure, 1 - sure), -1).expand(400, 64, 2))
    of_changes = draw(oracle, SamplingConfig(steps=3), neutral=0).tokens.float().mean()
    of_frames = draw(oracle, SamplingConfig(steps=3)).tokens.float().mean()
    assert abs(of_changes - (1 - sure).mean()) < 0.01
    assert of_frames < 0.05
    masked = [(asked == 2).all(0) for asked in oracle.asked[:3]]
    assert masked[1][: int(masked[1].sum())].all()  # the most certain come first, in all rows


@pytest.mark.parametrize("temperature", [1.0, 0.2, 0.0])
def test_a_group_is_not_outdone_by_one_token_that_each_of_it_is_less_likely_than(temperature):
    alone, many = 0.3, torch.cat((torch.tensor([0.09]), torch.full((7,), 0.61 / 7)))
    oracle = Oracle(torch.cat((torch.tensor([alone]), many)).expand(400, 64, 9))
    config = SamplingConfig(steps=1, temperature=temperature)
    apart = (draw(oracle, config, neutral=0).tokens > 0).float().mean()
    tokens = draw(oracle, config, neutral=0, group_start=1).tokens
    heat = max(temperature, 1e-2)
    expected = 1 / (1 + (alone / 0.7) ** (1 / heat))
    assert abs((tokens > 0).float().mean() - expected) < 0.01
    if temperature == 1:
        share = torch.bincount(tokens.flatten(), minlength=9) / tokens.numel()
        torch.testing.assert_close(share[1:], many, atol=0.01, rtol=0)
    else:
        assert apart < 0.02
    if temperature == 0:
        assert (tokens == 1).all()  # the likeliest of those


def test_with_a_threshold_rows_stop_on_their_own_and_do_not_change():
    easy, hard = torch.tensor([0.99, 0.01]), torch.tensor([0.6, 0.4])
    oracle = Oracle(torch.stack((easy, hard))[:, None].expand(2, 64, 2))
    config = SamplingConfig(steps=8, temperature=0.0, threshold=0.9)
    sample = draw(oracle, config)
    assert sample.passes.tolist() == [1, 8]
    alone = draw(Oracle(oracle.logits[:1].exp()), config)
    assert torch.equal(alone.tokens, sample.tokens[:1])
    only_easy = Oracle(easy.expand(2, 64, 2))
    draw(only_easy, config)
    assert len(only_easy.asked) == 1
