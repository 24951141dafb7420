// A screen: a frame in crisp pixels, overlaid with the ghost and the model's uncertainty.

const UNSURE = [255, 46, 138]; // the colour of a patch with maximum uncertainty
const VISIBLE = 24; // grey levels by which a pixel of the ghost must differ

/** Write RGB pixels into a canvas. */
export function paint(canvas, pixels, size) {
  const image = new ImageData(size, size);
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
    image.data[to] = pixels[from];
    image.data[to + 1] = pixels[from + 1];
    image.data[to + 2] = pixels[from + 2];
    image.data[to + 3] = 255;
  }
  resize(canvas, size).putImageData(image, 0, 0);
}

function resize(canvas, size) {
  if (canvas.width !== size) canvas.width = canvas.height = size;
  return canvas.getContext("2d");
}

/** Show the pixels of another frame, half transparent, where they differ from this one. */
export function paintGhost(canvas, other, frame, size) {
  const image = new ImageData(size, size);
  for (let from = 0, to = 0; from < other.length; from += 3, to += 4) {
    const apart = Math.max(
      Math.abs(other[from] - frame[from]),
      Math.abs(other[from + 1] - frame[from + 1]),
      Math.abs(other[from + 2] - frame[from + 2]),
    );
    if (apart < VISIBLE) continue;
    for (let c = 0; c < 3; c++) image.data[to + c] = other[from + c];
    image.data[to + 3] = 150;
  }
  resize(canvas, size).putImageData(image, 0, 0);
}

/** Show how unsure the model is of each patch: 0 is clear, 255 a choice between all codes. */
export function paintPatches(canvas, patches, grid) {
  const image = new ImageData(grid, grid);
  patches.forEach((value, at) => {
    image.data.set([...UNSURE, Math.min(170, value)], at * 4);
  });
  resize(canvas, grid).putImageData(image, 0, 0);
}

export class Screen {
  /** A new screen in `parent`; `kind` is dream or real, and decides its colour. */
  constructor(parent, kind) {
    this.element = document.createElement("figure");
    this.element.className = `screen ${kind}`;
    const glass = document.createElement("div");
    glass.className = "glass";
    this.frame = document.createElement("canvas");
    this.frame.className = "frame";
    this.ghost = document.createElement("canvas");
    this.patches = document.createElement("canvas");
    glass.append(this.frame, this.ghost, this.patches);
    this.label = document.createElement("figcaption");
    this.name = document.createElement("b");
    this.numbers = document.createElement("span");
    this.label.append(this.name, this.numbers);
    this.element.append(this.label, glass);
    parent.append(this.element);
  }

  /** Draw a frame; `ghost` and `patches` may be null. */
  draw(frame, size, { ghost = null, patches = null, grid = 0 } = {}) {
    paint(this.frame, frame, size);
    this.ghost.hidden = ghost === null;
    if (ghost !== null) paintGhost(this.ghost, ghost, frame, size);
    this.patches.hidden = patches === null;
    if (patches !== null) paintPatches(this.patches, patches, grid);
  }

  caption(name, numbers) {
    this.name.textContent = name;
    this.numbers.textContent = numbers;
  }
}

/** The largest side in CSS pixels at which every pixel of the frame has the same size. */
export function crispSide(available, size) {
  const dense = window.devicePixelRatio || 1;
  const times = (available * dense) / size;
  return times < 4 ? Math.floor(available) : (Math.floor(times) * size) / dense;
}
