"""The sections of the report, as HTML; each contains a short explanation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
import torch
from torch import Tensor

from benchmarks.dreams.events import Found
from benchmarks.dreams.long_dream import LongDream, contrast, motion
from benchmarks.dreams.measure import Measured
from benchmarks.page.charts import Line, dots, lines
from benchmarks.page.film import data_uri, error_picture, row, sheet
from genie_gym.evaluation.scores import DELTA_STEP

__all__ = [
    "calibration",
    "closeness",
    "control",
    "events",
    "long",
    "player",
    "ranked",
    "strips",
    "verdict",
]

NUM_MOMENTS, NUM_STRIPS, LONG_COLUMNS, LONG_POINTS = 8, 4, 12, 100
KINDS = (("dream", "", "dream"), ("copying", "_copy", "copy"), ("tokenizer", "_ceiling", "ceiling"))
LEGEND = (
    '<div class="legend"><span><i class="key dream"></i>the dream</span>'
    '<span><i class="key copy"></i>copying: the last real frame, repeated. An untrained '
    "world can do that, so it is the floor.</span>"
    '<span><i class="key ceiling"></i>tokenizer: the real frames, encoded as tokens and '
    "decoded again. The best a dream can reach, so it is the ceiling.</span></div>"
)


def ranked(measured: Measured, num: int) -> list[tuple[str, int]]:
    """Choose windows evenly from the best to the worst; return a title and the index of each."""
    quality = measured.scores.frames["psnr"].mean(1)
    order = quality.argsort(descending=True)
    places = np.unique(np.linspace(0, len(order) - 1, min(num, len(order))).astype(int))
    names = {places[0]: "the best dream", places[-1]: "the worst dream"}
    names.setdefault(places[len(places) // 2], "a median dream")
    return [
        (
            f"{names.get(place, f'dream {place + 1} of {len(order)}')}, "
            f"{float(quality[order[place]]):.1f} dB",
            int(order[place]),
        )
        for place in places
    ]


def verdict(measured: Measured) -> str:
    """Summarise the result in a few sentences."""
    scores, n = measured.scores, measured.windows.num_steps
    dream, copy, ceiling = (scores.mean(f"psnr{suffix}") for _, suffix, _ in KINDS)
    step = min(DELTA_STEP, n)
    delta = scores.curve("delta_psnr_genie")[step - 1]
    error = scores.error_at("delta_psnr_genie", step)
    obeys = delta > 2 * error
    items = [
        f"<b>Accuracy.</b> Over {n} frames the dream scores {dream:.1f} dB, "
        f"{abs(dream - copy):.1f} dB {'more' if dream >= copy else 'less'} than a still picture "
        f"({copy:.1f}) and {abs(ceiling - dream):.1f} dB {'less' if ceiling >= dream else 'more'} "
        f"than its tokenizer alone ({ceiling:.1f}). 6 dB more means half the RMS error.",
        f"<b>Control.</b> After {step} steps, the dream with the true actions is "
        f"{abs(delta):.2f} dB (&plusmn;{error:.2f}) "
        f"{'closer to' if delta >= 0 else 'further from'} "
        "the real frames than one with random actions: "
        f"{'it follows its actions' if obeys else 'no sign that it follows its actions'}.",
    ]
    if measured.long is not None:
        figures = measured.long.figures(step)
        items.append(
            f"<b>Stability.</b> After {measured.long.frames.shape[1]:,} frames the dream has "
            f"{100 * figures['stability_contrast']:.0f}% of the contrast of real frames; "
            f"{100 * figures['stability_flat']:.0f}% of all dreamed frames were flat, "
            f"{100 * figures['stability_frozen']:.0f}% frozen."
        )
    return f'<ul class="verdict">{"".join(f"<li>{item}</li>" for item in items)}</ul>'


def player(measured: Measured, meanings: Sequence[str]) -> str:
    """Show real and dreamed frames in a player."""
    actions = measured.windows.dreamed_actions
    moments = [
        {
            "name": name,
            "sheet": data_uri(sheet(measured.clips, window)),
            "actions": [meanings[a] for a in actions[window].tolist()],
        }
        for name, window in ranked(measured, NUM_MOMENTS)
    ]
    screens = (("real", "the real game"), ("dream", "the dream"), ("error", "the error"))
    figures = "".join(
        f'<figure><canvas id="{name}" role="img" aria-label="{text}"></canvas>'
        f"<figcaption>{text}</figcaption></figure>"
        for name, text in screens
    )
    return (
        "<h2>Watch</h2><p>The game and the dream start from the same real frame and take the same "
        "actions. The game computes the next frame; the dream predicts it.</p>"
        f'<div class="card"><div class="screens">{figures}</div><div class="controls">'
        '<button id="play" type="button">Play</button>'
        '<input id="step" type="range" min="0" value="0" aria-label="step">'
        '<select id="moment" aria-label="which dream"></select>'
        '<span id="caption" class="soft" aria-live="off"></span></div></div>'
        f'<script type="application/json" id="moments">{_json(moments)}</script>'
    )


def closeness(measured: Measured) -> str:
    """Return the section that plots the dream's scores at each step.

    It also plots the floor (the scores of the last real frame, repeated) and the ceiling (the
    scores of the real frames after the tokenizer has encoded and decoded them).
    """
    scores = measured.scores
    steps = range(1, measured.windows.num_steps + 1)
    rows = [
        (label, [(what, scores.mean(name + suffix), style) for what, suffix, style in KINDS])
        for label, name in (
            ("all pixels", "psnr"),
            ("changed since prompt", "changed_psnr"),
            ("just moved", "moving_psnr"),
        )
        if np.isfinite(scores.mean(name))
    ]
    charts = [
        ("PSNR of all pixels, dB", "psnr"),
        ("PSNR of pixels changed since the prompt, dB", "changed_psnr"),
        ("SSIM: structural similarity, 1 for equal frames", "ssim"),
    ]
    figures = [_figure("Means over all frames, dB", dots(rows, title="PSNR in dB"))]
    figures += [
        _figure(
            title,
            _chart(
                [(what, name + suffix, style) for what, suffix, style in KINDS],
                measured,
                steps,
                title,
            ),
        )
        for title, name in charts
        if np.isfinite(scores.curve(name)).any()
    ]
    return (
        "<h2>How accurate is it?</h2><p><b>PSNR</b> turns the mean squared error of a frame into "
        "decibels: 6 dB more means half the RMS error. At 20 dB frames look roughly alike; above "
        "30 dB a difference is hard to see. Most of a game's picture does not change, so PSNR is "
        "also given for the <b>changed pixels</b>: those that differ from the last prompt frame. "
        "There, copying is wrong by definition.</p>"
        f'{LEGEND}<div class="pair">{"".join(figures)}</div>'
    )


def strips(measured: Measured) -> str:
    """Show film strips of the real frames, the dreamed frames and the errors."""
    parts = []
    for name, window in ranked(measured, NUM_STRIPS):
        clips = measured.clips
        last, real, dream = clips.last[window], clips.real[window], clips.dream[window]
        films = (
            ("real", torch.cat((last, real))),
            ("dream", torch.cat((last, dream))),
            ("error", torch.cat((torch.zeros_like(last), error_picture(dream, real)))),
        )
        parts.append(
            f'<h3>{name[0].upper() + name[1:]}</h3><div class="card">{_strip(films)}</div>'
        )
    return (
        "<h2>Frame by frame</h2><p>The first column is the last real frame of the prompt. Errors "
        "are shown at twice their strength. The dreams are chosen by rank, from the best to the "
        "worst.</p>" + "".join(parts)
    )


def control(measured: Measured, meanings: Sequence[str]) -> str:
    """Show whether the dream follows its actions."""
    steps = range(1, measured.windows.num_steps + 1)
    series = [
        ("all random", "delta_psnr_genie", "dream"),
        ("last replaced", "delta_psnr_last_action", "other"),
    ]
    changed = [
        ("all random", "delta_changed_psnr_genie", "dream"),
        ("last replaced", "delta_changed_psnr_last_action", "other"),
    ]
    figures = [
        _figure("Delta PSNR, all pixels, dB", _chart(series, measured, steps, "dB", zero=True))
    ]
    if np.isfinite(measured.scores.curve("delta_changed_psnr_genie")).any():
        chart = _chart(changed, measured, steps, "dB", zero=True)
        figures.append(_figure("Delta PSNR, changed pixels, dB", chart))
    last = measured.windows.prompt[:1, -1]
    return (
        "<h2>Does it follow its actions?</h2><p><b>Delta PSNR</b> is the PSNR of the dream with "
        "the true actions minus that of a dream with other actions. A dream that ignores its "
        "actions scores 0. There are two definitions, whose values are not comparable: <i>all "
        "random</i> (Genie's) draws every action at random; <i>last replaced</i> keeps the true "
        "actions and replaces only the one that leads to the frame."
        f'</p><div class="pair">{"".join(figures)}</div>'
        "<h3>Each action repeated, from one start</h3><p>Each row repeats a different action. If "
        "two rows look alike, their actions have the same effect here, or the world has not "
        "learned the difference.</p>"
        f'<div class="card">{_held(meanings, measured.held, last)}</div>'
    )


def events(measured: Measured) -> str:
    """Show the precision and recall of predicted rewards and terminations."""
    if not measured.events:
        return ""
    tolerance = measured.tolerance
    sentences = []
    for name, found in measured.events.items():
        figures = found.figures(name)
        if not found.num_real:
            sentences.append(f"<li><b>{name}</b>: none in these episodes.</li>")
            continue
        sentences.append(
            f"<li><b>{name}</b>: of {found.num_real} real events, "
            f"{100 * figures[f'{name}_recall']:.0f}% are in the dream (recall); "
            + _predicted(found, figures, name)
        )
    return (
        "<h2>Rewards and terminations</h2><p>The world also predicts rewards and terminations. "
        f"An event counts as found if the dream predicts it within {tolerance} "
        f"step{'s' * (tolerance != 1)} of the real event.</p><ul>{''.join(sentences)}</ul>"
    )


def long(measured: Measured, meanings: Sequence[str]) -> str:
    """Show the long dreams and their stability."""
    dream = measured.long
    if dream is None:
        return ""
    num = dream.frames.shape[1]
    columns = np.linspace(0, num - 1, min(LONG_COLUMNS, num)).astype(int)
    films = [(f"dream {k + 1}", frames[columns]) for k, frames in enumerate(dream.frames)]
    late = max(dream.held)
    figures = [_over_time(dream, "contrast"), _over_time(dream, "motion")]
    return (
        f"<h2>{num:,} frames</h2><p>A long dream sees no further real frames. Does it "
        "fade, freeze, or stay stable? A stable dream keeps the contrast and the motion of real "
        "frames, although it no longer shows the same place as the real game.</p>"
        f'<div class="pair">{"".join(figures)}</div>'
        f"<h3>Frames {', '.join(f'{c + 1:,}' for c in columns)}</h3>"
        f'<div class="card">{_strip(films)}</div>'
        f"<h3>Each action repeated, starting at frame {late:,}</h3><p>The same comparison as "
        f"above, late in the first dream. {_obedience(dream)}</p>"
        f'<div class="card">{_held(meanings, dream.held[late], dream.frames[:1, late - 1])}</div>'
    )


def calibration(measured: Measured) -> str:
    """Show how well the world model's uncertainty predicts its error."""
    value, within = measured.scores.calibration, measured.scores.calibration_within
    if not np.isfinite(value):
        return ""
    return (
        "<h2>Does its uncertainty predict its error?</h2><p>The world gives an uncertainty for "
        "each frame. Over all dreamed frames, its rank correlation with the true error is "
        f"<b>{value:.2f}</b> (1: the same ranking, 0: no relation)"
        + (f"; among frames at the same step, {within:.2f}" if np.isfinite(within) else "")
        + ".</p>"
    )


def _predicted(found: Found, figures: Mapping[str, float], name: str) -> str:
    if not found.predicted:
        return "the dream predicts none.</li>"
    late = figures.get(f"{name}_late_steps")
    return (
        f"of the events in the dream, {100 * figures[f'{name}_precision']:.0f}% are real "
        f"(precision){'' if late is None else f', {late:+.1f} steps late on average'}.</li>"
    )


def _chart(
    series: Sequence[tuple[str, str, str]],
    measured: Measured,
    steps: Sequence[float],
    title: str,
    zero: bool = False,
) -> str:
    drawn = [Line(what, measured.scores.curve(name), style) for what, name, style in series]
    return lines(drawn, x=steps, x_title="steps ahead", y_title=title, zero=zero)


def _over_time(dream: LongDream, what: str) -> str:
    values = (contrast if what == "contrast" else motion)(dream.frames).mean(0)
    real = dream.real_contrast if what == "contrast" else dream.real_motion
    size = max(1, len(values) // LONG_POINTS)
    means = values[: len(values) // size * size].view(-1, size).mean(1).tolist()
    x = [(k + 1) * size for k in range(len(means))]
    title = {
        "contrast": "Contrast: standard deviation of grey levels in a frame",
        "motion": "Motion: mean change between frames, grey levels",
    }[what]
    series = [Line("dream", means, "dream"), Line("real play", [real] * len(x), "ceiling")]
    return _figure(title, lines(series, x=x, x_title="frame", y_title=title, zero=True))


def _obedience(dream: LongDream) -> str:
    parts = [
        f"{obeyed.pixels[min(DELTA_STEP, len(obeyed.pixels)) - 1]:.0f} at frame {frame:,}"
        for frame, obeyed in dream.obedience.items()
    ]
    return (
        f"After {DELTA_STEP} steps, other actions change more pixels than other random numbers "
        f"alone: by {' and '.join(parts)}. A dream that ignores its actions would have 0."
    )


def _held(meanings: Sequence[str], held: Tensor, first: Tensor) -> str:
    return _strip((name, torch.cat((first, h))) for name, h in zip(meanings, held, strict=True))


def _strip(films: Iterable[tuple[str, Tensor]]) -> str:
    parts = [
        f'<span>{escape(name)}</span><img src="{data_uri(row(frames))}" alt="{escape(name)}">'
        for name, frames in films
    ]
    return f'<div class="strip">{"".join(parts)}</div>'


def _figure(caption: str, drawing: str) -> str:
    return f'<figure class="card"><figcaption>{escape(caption)}</figcaption>{drawing}</figure>'


def _json(value: object) -> str:
    return json.dumps(value).replace("</", "<\\/")
