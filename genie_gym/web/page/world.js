// An exported world: its graphs, run by ONNX Runtime Web, and the state of a dream.

import { sampleTokens } from "./sampling.js";

const NO_ACTION = -1; // stands for the action before the first frame

export class World {
  /** Load the world of a folder; `ort` is ONNX Runtime Web. */
  static async load(folder, ort) {
    const card = await (await fetch(new URL("world.json", folder))).json();
    const starts = await (await fetch(new URL("starts.bin", folder))).arrayBuffer();
    const sessions = {};
    for (const name of card.graphs) {
      const url = new URL(`${name}.onnx`, folder);
      const file = new Uint8Array(await (await fetch(url)).arrayBuffer());
      sessions[name] = await ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
    }
    return new World(card, starts, sessions, ort);
  }

  constructor(card, starts, sessions, ort) {
    Object.assign(this, { card, sessions, ort });
    this.sampling = { ...card.sampling };
    this.frameBytes = card.size * card.size * 3;
    this.starts = new Uint8Array(starts);
    const [numLayers, , , window] = card.ring;
    this.window = window;
    this.rings = ["keys", "values"].flatMap((part) =>
      Array.from({ length: numLayers }, (_, layer) => `${part}_${layer}`),
    );
    // The past as graphs take it, and the entry in each of its slots: see `hold`.
    const size = card.ring.slice(1).reduce((a, b) => a * b);
    this.past = Object.fromEntries(this.rings.map((name) => [name, new Float32Array(size)]));
    this.held = new Array(window).fill(null);
  }

  /** The state after the real frames of a start, chosen by the seed. */
  async begin(seed) {
    const { starts, tails, clip } = this.card;
    const at = seed % starts.length;
    const { actions, tokens } = starts[at];
    const frame = (t) => this.starts.slice((at * clip + t) * this.frameBytes, (at * clip + t + 1) * this.frameBytes);
    let state = {
      seed,
      frame: frame(0),
      tokens: Int32Array.from(tokens[0]),
      slots: new Array(this.window).fill(null), // keys and values of past frames
      tails: [0, 1].map(() => new Float32Array(tails.reduce((a, b) => a * b))),
      length: 0, // frames in the cache
      frames: 1, // frames so far
    };
    if (!this.card.onePass) {
      state = this.remember(state, await this.run("finish", state, state.tokens, NO_ACTION));
    }
    for (let t = 1; t < clip; t++) {
      const known = Int32Array.from(tokens[t]);
      const of = this.card.onePass ? ["predict", state.tokens] : ["finish", known];
      const entry = await this.run(of[0], state, of[1], actions[t - 1]);
      state = { ...this.remember(state, entry), tokens: known, frame: frame(t), frames: state.frames + 1 };
    }
    return state;
  }

  /** Imagine the next frame; the given state stays as it is. */
  async step(state, action) {
    const { sampling, card } = this;
    let entry = null;
    let predict = async (tokens) => (await this.run("sample", state, tokens, action)).logits;
    if (card.onePass) {
      entry = await this.run("predict", state, state.tokens, action);
      predict = async () => entry.logits;
    }
    const { tokens, entropy, passes } = await sampleTokens(predict, card.space, sampling, state.seed, state.frames);
    entry ??= await this.run("finish", state, tokens, action);
    const feeds = { tokens: this.tensor("int32", tokens), frame: this.frameTensor(state.frame) };
    const { shown } = await this.sessions.decode.run(feeds);
    const next = this.remember(state, entry);
    Object.assign(next, { tokens, frame: shown.data, frames: state.frames + 1 });
    const [expected, termination] = [entry.reward[0], entry.termination[0]];
    const far = (value) => Math.abs(expected - value);
    // A world that rounds its rewards lists those of its game.
    const reward = card.rewards.reduce((best, value) => (far(value) < far(best) ? value : best), card.rewards[0] ?? expected);
    return { state: next, tokens, entropy, passes, reward, termination };
  }

  /** Run a pass over a frame with these tokens; the outputs by name, as plain arrays. */
  async run(graph, state, tokens, action) {
    const { ring, tails } = this.card;
    const feeds = {
      tokens: this.tensor("int32", tokens),
      action: this.tensor("int32", Int32Array.of(action)),
      frame: this.frameTensor(state.frame),
      bias: this.bias(state.length),
      tails: this.tensor("float32", state.tails[0], tails),
    };
    this.hold(state.slots);
    const [, numTokens, numHeads, window, width] = ring;
    for (const name of this.rings) {
      const last = name.startsWith("keys") ? [width, window] : [window, width];
      feeds[name] = this.tensor("float32", this.past[name], [numTokens, numHeads, ...last]);
    }
    const session = this.sessions[graph];
    for (const name of Object.keys(feeds)) {
      // A finished frame needs no attention to the past in the last layer.
      if (!session.inputNames.includes(name)) delete feeds[name];
    }
    const outputs = await session.run(feeds);
    return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]));
  }

  /** Bring the entries of these slots into `past`; those that are there already stay. */
  hold(slots) {
    // An empty slot may keep what another dream left there: its bias is -Infinity.
    slots.forEach((entry, slot) => {
      if (!entry || this.held[slot] === entry) return;
      for (const name of this.rings) this.place(this.past[name], entry[name], slot, name.startsWith("keys"));
      this.held[slot] = entry;
    });
  }

  /** Write a frame's keys or values into a slot: keys are (N, H, E, W), values (N, H, W, E). */
  place(ring, fresh, slot, areKeys) {
    const [, , , window, width] = this.card.ring;
    const [apart, begin] = areKeys ? [window, slot] : [1, slot * width];
    for (let row = 0; row * width < fresh.length; row++) {
      const to = row * window * width + begin;
      for (let at = 0; at < width; at++) ring[to + at * apart] = fresh[row * width + at];
    }
  }

  /** The state with a frame more in its cache. */
  remember(state, entry) {
    const slots = [...state.slots];
    slots[state.length % this.window] = Object.fromEntries(this.rings.map((name) => [name, entry[`new_${name}`]]));
    const given = entry.new_tails; // (2, P, N, D): for the next frame, and for the one after it
    const half = given.length / 2;
    const next = given.slice(0, half);
    for (let at = 0; at < half; at++) next[at] += state.tails[1][at];
    return { ...state, slots, tails: [next, given.slice(half)], length: state.length + 1 };
  }

  /** What temporal attention adds to its logits for each slot of the ring. */
  bias(length) {
    const [, , numHeads, window] = this.card.ring;
    const bias = new Float32Array(numHeads * window);
    for (let head = 0; head < numHeads; head++) {
      const slope = 2 ** ((-8 / numHeads) * (head + 1));
      for (let slot = 0; slot < window; slot++) {
        const age = ((((length - 1 - slot) % window) + window) % window) + 1;
        bias[head * window + slot] = age <= length ? -slope * age : -Infinity;
      }
    }
    return this.tensor("float32", bias, [numHeads, window]);
  }

  tensor(type, data, shape = [data.length]) {
    return new this.ort.Tensor(type, data, shape);
  }

  frameTensor(frame) {
    return this.tensor("uint8", frame, [this.card.size, this.card.size, 3]);
  }
}
