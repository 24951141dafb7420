// Curves of the last frames, drawn on canvases in the colours of the style sheet.

const SPAN = 200; // frames

export class Curve {
  /** `series` maps a name to a CSS variable with its colour. */
  constructor(parent, title, unit, series) {
    this.series = series;
    this.points = Object.fromEntries(Object.keys(series).map((name) => [name, []]));
    this.element = document.createElement("figure");
    this.element.className = "curve";
    const caption = document.createElement("figcaption");
    const name = document.createElement("b");
    name.textContent = title;
    this.value = document.createElement("span");
    this.unit = unit;
    caption.append(name, this.value);
    this.canvas = document.createElement("canvas");
    this.element.append(caption, this.canvas);
    parent.append(this.element);
  }

  clear() {
    for (const points of Object.values(this.points)) points.length = 0;
  }

  /** Add values at a frame; what was known of later frames is replaced. */
  add(now, values) {
    for (const [name, points] of Object.entries(this.points)) {
      while (points.length && points.at(-1)[0] >= now) points.pop();
      if (values[name] !== null && values[name] !== undefined) points.push([now, values[name]]);
      while (points.length && points[0][0] < now - SPAN) points.shift();
    }
    const shown = Object.values(this.points).filter((points) => points.at(-1)?.[0] === now);
    this.value.textContent = shown.length
      ? shown.map((points) => short(points.at(-1)[1])).join(" · ") + this.unit
      : "–";
  }

  draw(now) {
    const style = getComputedStyle(this.element);
    const dense = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (this.canvas.width !== Math.round(width * dense)) this.canvas.width = Math.round(width * dense);
    if (this.canvas.height !== Math.round(height * dense)) this.canvas.height = Math.round(height * dense);
    const pen = this.canvas.getContext("2d");
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, width, height);
    const all = Object.values(this.points).flat();
    const first = Math.max(0, now - SPAN);
    const high = Math.max(...all.map(([, y]) => y), this.least ?? 0.1);
    const low = Math.min(...all.map(([, y]) => y), 0);
    const place = ([x, y]) => [
      4 + ((x - first) / SPAN) * (width - 8),
      height - 5 - ((y - low) / (high - low || 1)) * (height - 18),
    ];
    pen.strokeStyle = style.getPropertyValue("--rule");
    pen.lineWidth = 1;
    pen.beginPath();
    for (const y of [low, high]) {
      const [, at] = place([first, y]);
      pen.moveTo(4, Math.round(at) + 0.5);
      pen.lineTo(width - 4, Math.round(at) + 0.5);
    }
    pen.stroke();
    pen.fillStyle = style.getPropertyValue("--soft");
    pen.font = "10px system-ui, sans-serif";
    pen.fillText(short(high), 5, place([first, high])[1] - 3);
    for (const [name, points] of Object.entries(this.points)) {
      pen.strokeStyle = style.getPropertyValue(this.series[name]);
      pen.lineWidth = 1.8;
      pen.lineJoin = "round";
      pen.beginPath();
      points.forEach((point, at) => pen[at ? "lineTo" : "moveTo"](...place(point)));
      pen.stroke();
    }
  }
}

function short(value) {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}
