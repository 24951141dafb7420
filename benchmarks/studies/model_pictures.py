"""Draw the SVG figures for docs/model.md: a world model's parts, and its attention over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

__all__ = ["architecture", "visibility"]

INK, FAINT, PAPER = "#24292f", "#6e7781", "#ffffff"


@dataclass(frozen=True)
class Colour:
    """Fill and border colours for one kind of part."""

    fill: str
    line: str


DATA = Colour("#f3f4f6", "#8c959f")
TOKENIZER = Colour("#dbeafe", "#3b73b9")
DYNAMICS = Colour("#ffe8cc", "#c2701c")
ACTIONS = Colour("#dcf2dc", "#3f8f4a")
SAMPLING = Colour("#ece2f7", "#7d55ad")
MASKED = Colour("#ffffff", "#c2701c")


class Drawing:
    """Collects shapes; `svg` returns them as an SVG file."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.shapes: list[str] = []

    def svg(self) -> str:
        """Return the figure on a white card, so that it is readable on dark pages."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="{INK}">'
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
            f'markerHeight="8" orient="auto"><path d="M0 0.8L7 4L0 7.2z" fill="{FAINT}"/></marker>'
            "</defs>"
        )
        card = f'<rect width="{self.width}" height="{self.height}" rx="10" fill="{PAPER}"/>'
        return "\n".join([head, card, *self.shapes, "</svg>"]) + "\n"

    def rect(self, x: float, y: float, w: float, h: float, colour: Colour, radius: int = 6) -> None:
        self.shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{radius}" '
            f'fill="{colour.fill}" stroke="{colour.line}" stroke-width="1.3"/>'
        )

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "middle", style: str = ""
    ) -> None:
        self.shapes.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {style}>{escape(words)}</text>'
        )

    def note(self, x: float, y: float, lines: Sequence[str], anchor: str = "middle") -> None:
        """Draw lines of small grey text."""
        style = f'font-size="11" fill="{FAINT}"'
        for number, line in enumerate(lines):
            self.text(x, y + 14 * number, line, anchor=anchor, style=style)

    def box(
        self, x: float, y: float, w: float, h: float, colour: Colour, title: str, *lines: str
    ) -> None:
        """Draw a box with a centred title and small lines below it."""
        self.rect(x, y, w, h, colour)
        top = y + h / 2 + 4.5 - 7.5 * len(lines)
        self.text(x + w / 2, top, title, style='font-weight="bold"')
        self.note(x + w / 2, top + 16, lines)

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        path = "L".join(f"{x:g} {y:g}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.shapes.append(
            f'<path d="M{path}" fill="none" stroke="{FAINT}" stroke-width="1.5"{dash} '
            'marker-end="url(#tip)"/>'
        )


def architecture() -> str:
    """Draw the path from real frames and an action to the next frame."""
    draw = Drawing(1000, 470)
    middle = 150
    draw.text(24, 34, "How a world dreams one frame", anchor="start", style='font-size="17"')
    for offset in (12, 6, 0):
        draw.rect(30 + offset, middle - 42 + offset, 84, 84, DATA, radius=3)
    draw.text(72, middle - 3, "real", style='font-weight="bold"')
    draw.text(72, middle + 13, "frames", style='font-weight="bold"')
    draw.note(78, middle + 72, ["T x 64 x 64 x 3", "uint8"])
    draw.box(165, middle - 45, 130, 90, TOKENIZER, "Encoder", "patches, then", "space-time blocks")
    draw.box(330, middle - 45, 110, 90, TOKENIZER, "Quantizer", "nearest of", "K unit codes")
    _grid(draw, 478, middle - 40, 80, lambda row, column: (row * 3 + column * 5) % 7 > 2)
    draw.note(518, middle + 58, ["tokens", "T x N, ids below K"])
    draw.box(
        *(610, middle - 60, 160, 120),
        DYNAMICS,
        "Dynamics",
        "space-time blocks;",
        "past frames come",
        "from a cache",
    )
    draw.box(
        825, middle - 45, 150, 90, SAMPLING, "Sampling", "N x K logits;", "the surest are kept"
    )
    for start, end in ((129, 162), (295, 327), (440, 475), (558, 607), (770, 822)):
        draw.arrow((start, middle), (end, middle))
    draw.box(610, 28, 160, 38, ACTIONS, "action")
    draw.note(778, 44, ["one-hot beside each token", "(added, if latent)"], anchor="start")
    draw.arrow((690, 66), (690, middle - 63))
    draw.arrow((900, middle + 45), (900, middle + 85), (720, middle + 85), (720, middle + 63))
    draw.note(810, middle + 101, ["some tokens unmasked, 8 passes"])

    draw.box(300, 20, 240, 54, ACTIONS, "latent action model", "where actions are unknown")
    draw.arrow((540, 47), (607, 47), dashed=True)

    _grid(draw, 860, 310, 80, lambda row, column: (row * 2 + column * 3) % 5 > 1)
    draw.note(900, 408, ["tokens of", "the next frame"])
    draw.arrow((950, middle + 45), (950, 280), (900, 280), (900, 307))
    draw.box(610, 296, 160, 56, DYNAMICS, "one more pass", "the frame joins the past")
    draw.arrow((857, 324), (773, 324))
    draw.arrow((650, 296), (650, middle + 63))
    draw.note(640, 250, ["its keys, values", "and PEG shares"], anchor="end")
    draw.box(448, 305, 110, 38, DATA, "reward, end?")
    draw.arrow((610, 324), (561, 324))
    draw.box(610, 372, 160, 78, TOKENIZER, "Decoder", "space-time blocks,", "then pixels")
    draw.arrow((857, 376), (815, 376), (815, 411), (773, 411))
    draw.rect(461, 369, 84, 84, DATA, radius=3)
    draw.text(503, 408, "next", style='font-weight="bold"')
    draw.text(503, 424, "frame", style='font-weight="bold"')
    draw.arrow((610, 411), (548, 411))
    _block(draw, 30, 312)
    return draw.svg()


def visibility() -> str:
    """Draw which frames each frame attends to, in training with two objectives and in dreams."""
    draw = Drawing(1000, 376)
    draw.text(24, 34, "Who sees whom over time", anchor="start", style='font-size="17"')
    cell, top = 34, 112
    frames = ["1", "2", "3", "4"]

    def matrix(
        left: float,
        title: str,
        rows: Sequence[str],
        columns: Sequence[str],
        seen: Callable[[int, int], Colour | None],
    ) -> None:
        draw.text(left, 68, title, anchor="start", style='font-weight="bold"')
        for c, name in enumerate(columns):
            draw.text(left + 44 + (c + 0.5) * cell, top - 10, name)
        for r, name in enumerate(rows):
            draw.text(left + 36, top + (r + 0.5) * cell + 4, name, anchor="end")
            for c in range(len(columns)):
                colour = seen(r, c) or Colour("#f6f8fa", "#e4e7eb")
                draw.rect(left + 44 + c * cell + 2, top + r * cell + 2, cell - 4, cell - 4, colour)

    half = [f"{name}*" for name in frames]
    matrix(24, "the paper's objective", half, half, lambda r, c: MASKED if c <= r else None)
    lines = ["every frame has half or more of", "its tokens masked; t predicts t + 1"]
    draw.note(24, top + 170, lines, "start")
    second = [f"{name}*" for name in frames[1:]]
    matrix(
        300,
        "two streams (ours)",
        [*frames, *second],
        [*frames, *second],
        lambda r, c: _two_streams(r, c, len(frames)),
    )
    matrix(
        668,
        "a dream",
        ["5*"],
        [*frames, "5*"],
        lambda r, c: MASKED if c == 4 else DYNAMICS,
    )
    lines = [
        "1 to 4 come from the cache: their keys and",
        "values never change, since no frame looks",
        "ahead. Only 5* is computed, and it sees",
        "what 2*, 3* and 4* saw in training.",
    ]
    draw.note(668, top + 56, lines, "start")
    draw.rect(668, top + 134, 18, 18, DYNAMICS, radius=3)
    draw.note(694, top + 147, ["sees the clean frame"], "start")
    draw.rect(668, top + 162, 18, 18, MASKED, radius=3)
    draw.note(694, top + 175, ["sees a frame with masked tokens"], "start")
    return draw.svg()


def _two_streams(row: int, column: int, num_clean: int) -> Colour | None:
    """Return a cell's colour; None means that the row's frame does not see the column's frame.

    Clean frames attend to clean frames up to themselves. Masked frames attend to past clean frames
    and to themselves.
    """
    if row < num_clean:
        return DYNAMICS if column <= row else None
    if column < num_clean:
        return DYNAMICS if column <= row - num_clean else None
    return MASKED if column == row else None


def _block(draw: Drawing, left: float, top: float) -> None:
    """Draw a block: attention over space, then over time."""
    draw.text(left, top, "a space-time block", anchor="start", style='font-weight="bold"')
    for row, axis in enumerate(("space", "time")):
        y = top + 18 + 50 * row
        for x, w, name in (
            (0, 60, "PEG"),
            (84, 138, f"attention over {axis}"),
            (246, 104, "feed-forward"),
        ):
            draw.rect(left + x, y, w, 32, Colour("#fbfbfc", "#8c959f"))
            draw.text(left + x + w / 2, y + 20.5, name, style='font-size="12"')
        draw.arrow((left + 60, y + 16), (left + 82, y + 16))
        draw.arrow((left + 222, y + 16), (left + 244, y + 16))
    y = top + 59
    draw.arrow((left + 298, y - 9), (left + 298, y), (left + 30, y), (left + 30, y + 7))
    draw.note(left, top + 122, ["each adds to what it is given"], "start")


def _grid(draw: Drawing, x: float, y: float, size: float, dark: Callable[[int, int], bool]) -> None:
    """Draw the tokens of a frame."""
    step = size / 4
    for row in range(4):
        for column in range(4):
            colour = TOKENIZER if dark(row, column) else DATA
            draw.rect(x + column * step + 1, y + row * step + 1, step - 2, step - 2, colour, 2)
