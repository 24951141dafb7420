// Frames as an animated GIF: one palette for the film, each pixel enlarged.

const SCALE = 4; // pixels of the film per pixel of a frame, along each side
const COLOURS = 256;
const LARGEST = 4096; // entries of the code table

/** The bytes of a film of RGB frames. */
export function encodeGif(frames, size, fps) {
  const palette = paletteOf(frames);
  const place = new Map(); // colour -> its place in the palette
  const bytes = [];
  const word = (value) => bytes.push(value & 255, value >> 8);
  const side = size * SCALE;
  bytes.push(...new TextEncoder().encode("GIF89a"));
  word(side);
  word(side);
  bytes.push(0xf7, 0, 0); // a palette of 256 colours
  for (let at = 0; at < COLOURS; at++) bytes.push(...(palette[at] ?? [0, 0, 0]));
  bytes.push(0x21, 0xff, 11, ...new TextEncoder().encode("NETSCAPE2.0"), 3, 1, 0, 0, 0);
  for (const frame of frames) {
    bytes.push(0x21, 0xf9, 4, 4);
    word(Math.max(2, Math.round(100 / fps)));
    bytes.push(0, 0, 0x2c, 0, 0, 0, 0);
    word(side);
    word(side);
    bytes.push(0, 8);
    for (const code of blocks(compress(enlarged(frame, size, palette, place)))) bytes.push(code);
  }
  bytes.push(0x3b);
  return Uint8Array.from(bytes);
}

/** The commonest colours of a film, in steps of 4 grey levels. */
function paletteOf(frames) {
  const counts = new Map();
  for (const frame of frames) {
    for (let at = 0; at < frame.length; at += 3) {
      const colour = coarse(frame, at);
      counts.set(colour, (counts.get(colour) ?? 0) + 1);
    }
  }
  const commonest = [...counts].sort((a, b) => b[1] - a[1]).slice(0, COLOURS);
  return commonest.map(([colour]) => [colour >> 16, (colour >> 8) & 255, colour & 255]);
}

function coarse(frame, at) {
  return ((frame[at] & 0xfc) << 16) | ((frame[at + 1] & 0xfc) << 8) | (frame[at + 2] & 0xfc);
}

function enlarged(frame, size, palette, place) {
  const side = size * SCALE;
  const pixels = new Uint8Array(side * side);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const colour = coarse(frame, (y * size + x) * 3);
      if (!place.has(colour)) place.set(colour, nearest(colour, palette));
      const to = y * SCALE * side + x * SCALE;
      pixels.fill(place.get(colour), to, to + SCALE);
    }
    const row = y * SCALE * side;
    for (let more = 1; more < SCALE; more++) pixels.copyWithin(row + more * side, row, row + side);
  }
  return pixels;
}

function nearest(colour, palette) {
  const [red, green, blue] = [colour >> 16, (colour >> 8) & 255, colour & 255];
  let [best, least] = [0, Infinity];
  palette.forEach(([r, g, b], at) => {
    const off = (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2;
    if (off < least) [best, least] = [at, off];
  });
  return best;
}

/** LZW of pixels of 8 bits. */
function compress(pixels) {
  const [clear, end] = [256, 257];
  const out = [];
  let [bits, held, width, table, next] = [0, 0, 9, new Map(), 258];
  const put = (code) => {
    bits |= code << held;
    for (held += width; held >= 8; held -= 8) {
      out.push(bits & 255);
      bits >>>= 8;
    }
  };
  put(clear);
  let prefix = pixels[0];
  for (let at = 1; at < pixels.length; at++) {
    const key = (prefix << 8) | pixels[at];
    const known = table.get(key);
    if (known !== undefined) {
      prefix = known;
      continue;
    }
    put(prefix);
    if (next < LARGEST) {
      table.set(key, next);
      if (next === 1 << width) width += 1;
      next += 1;
    } else {
      put(clear);
      [width, table, next] = [9, new Map(), 258];
    }
    prefix = pixels[at];
  }
  put(prefix);
  put(end);
  if (held) out.push(bits & 255);
  return out;
}

/** Cut bytes into the blocks of a GIF, each with its length before it. */
function blocks(bytes) {
  const out = [];
  for (let at = 0; at < bytes.length; at += 255) {
    const block = bytes.slice(at, at + 255);
    out.push(block.length, ...block);
  }
  out.push(0);
  return out;
}
