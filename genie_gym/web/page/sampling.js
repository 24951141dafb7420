// MaskGIT sampling of one frame's tokens, as in world_models/inference/sampling.py.

import { uniform } from "./noise.js";

const COLD = 1e-3; // a temperature that practically always draws the likeliest token
const LARGEST = 1 - 2 ** -24; // below 1

/** Number of masked tokens before each of the passes, and after the last. */
export function cosineSchedule(steps, size) {
  const at = (step) => Math.floor(size * Math.cos((Math.PI / 2) * (step / steps)) + 1e-9);
  return Array.from({ length: steps + 1 }, (_, step) => at(step));
}

/**
 * Sample a frame. `predict(tokens)` resolves to the logits of all tokens, one row per token.
 * Returns the tokens, the entropy of each when all were masked, and the number of passes.
 */
export async function sampleTokens(predict, space, sampling, seed, counter) {
  const { numTokens: size, numCodes } = space;
  const { steps, temperature, threshold } = sampling;
  const schedule = cosineSchedule(steps, size);
  const tokens = new Int32Array(size).fill(numCodes);
  const masked = new Uint8Array(size).fill(1);
  let [first, step, passes] = [null, 0, 0];
  for (let pass = 0; pass < steps && masked.includes(1); pass++) {
    const logits = await predict(tokens);
    const noise = temperature ? uniform(seed, counter, pass * size, size) : new Float32Array(size);
    const drawn = draw(logits, space, temperature, noise, masked);
    first ??= drawn.entropy;
    const stay = leastCertain(drawn.certainty, masked, schedule[step + 1]);
    let left = 0;
    for (let at = 0; at < size; at++) {
      if (threshold < 1 && !(drawn.certainty[at] < threshold)) stay[at] = 0;
      left += stay[at];
      if (masked[at] && !stay[at]) tokens[at] = drawn.tokens[at];
    }
    const reached = schedule.filter((count) => count > left).length;
    step = Math.min(Math.max(step + 1, reached), steps - 1);
    passes += 1;
    masked.set(stay);
  }
  return { tokens, entropy: first, passes };
}

/** Draw the masked tokens. */
function draw(logits, space, temperature, noise, masked) {
  const { numTokens: size, numCodes: num } = space;
  const tokens = new Int32Array(size);
  const certainty = new Float32Array(size);
  const entropy = new Float32Array(size);
  const grouped = space.groupStart !== null;
  for (let at = 0; at < size; at++) {
    if (!masked[at]) continue;
    const row = logits.subarray(at * num, (at + 1) * num);
    let best = 0;
    for (let code = 1; code < num; code++) if (row[code] > row[best]) best = code;
    const most = row[best];
    let [total, expected] = [0, 0];
    for (let code = 0; code < num; code++) {
      const above = row[code] - most;
      const weight = Math.exp(above);
      total += weight;
      expected += weight * above;
    }
    entropy[at] = Math.log(total) - expected / total;
    certainty[at] = 1 / total;
    const sure = noise[at] < certainty[at] && certainty[at] > (grouped ? 0.5 : 0) && temperature <= 1;
    tokens[at] = sure ? best : drawAny(row, temperature, noise[at], space.groupStart);
  }
  return { tokens, certainty, entropy };
}

/** Draw one token: the lowest noise gives the likeliest. */
function drawAny(row, temperature, noise, groupStart) {
  const scores = groupStart === null ? row : asGroup(row, temperature, groupStart);
  const heat = temperature || 1;
  let best = 0;
  for (let code = 1; code < scores.length; code++) if (scores[code] > scores[best]) best = code;
  const weights = new Float64Array(scores.length); // loops: callbacks are several times as slow
  let total = 0;
  for (let code = 0; code < scores.length; code++) {
    weights[code] = Math.exp((scores[code] - scores[best]) / heat);
    total += weights[code];
  }
  const first = weights[best];
  if (noise * total < first) return best;
  const others = total - first;
  const place = Math.min(Math.max((noise * total - first) / others, 0), LARGEST) * others;
  let sum = 0;
  for (let code = 0; code < weights.length; code++) {
    if (code !== best) sum += weights[code];
    if (sum > place) return code;
  }
  return weights.length - 1;
}

/** Scores with which the group from `start` on is as likely as one token of its probability. */
function asGroup(row, temperature, start) {
  const heat = Math.max(temperature, COLD);
  let most = -Infinity;
  for (let code = start; code < row.length; code++) if (row[code] > most) most = row[code];
  let [whole, within] = [0, 0];
  for (let code = start; code < row.length; code++) {
    whole += Math.exp(row[code] - most);
    within += Math.exp((row[code] - most) / heat);
  }
  const offset = most + Math.log(whole) - heat * Math.log(within);
  const scores = Float64Array.from(row);
  for (let code = start; code < row.length; code++) scores[code] = row[code] - most + offset;
  return scores;
}

/** Mark the `count` least certain of the masked tokens; of equals the first. */
function leastCertain(certainty, masked, count) {
  const order = [...certainty.keys()].filter((at) => masked[at]);
  order.sort((a, b) => certainty[a] - certainty[b] || a - b);
  const marks = new Uint8Array(certainty.length);
  for (const at of order.slice(0, count)) marks[at] = 1;
  return marks;
}
