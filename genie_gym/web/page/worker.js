// The thread that dreams: it keeps the last moments and steps the world at the chosen speed.

import * as ort from "../ort/ort.wasm.min.mjs";
import { World } from "./world.js";

const DEPTH = 100; // frames that can be rewound
const SHARE = 4; // one token in 4 counts for a frame's uncertainty
const LONGEST = 900; // frames of a film

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("../ort/", import.meta.url).href;
ort.env.logLevel = "error";

let world = null;
let moments = []; // the moments that can be rewound to, with their states
let first = 0; // number of the first of them
let now = 0;
const session = { seed: 0, paused: false, fps: 15, held: 0, tapped: null, key: 0, film: null, beyond: false };
let single = false;
let due = 0;
let begun = 0; // counts resets, so that a step that was under way is dropped
let timer = 0;

let turn = Promise.resolve();
/** Run a task when the one before has ended: a graph runs once at a time. */
const inTurn = (task) => (turn = turn.then(task, task));

const moment = () => moments[now - first];

async function open(folder) {
  world = await World.load(folder, ort);
  postMessage({ hello: { ...world.card.hello, alone: true } });
  session.held = world.card.hello.idle;
  await reset(Math.floor(Math.random() * 1000));
}

async function reset(seed) {
  begun += 1;
  const over = moments.length && moment().ended;
  endFilm();
  const state = await world.begin(seed);
  const patches = new Uint8Array(world.card.space.numTokens);
  moments = [{ state, frame: state.frame, patches, reward: 0, total: 0, entropy: 0, ended: false }];
  Object.assign(session, { seed, tapped: null, paused: session.paused && !over });
  [first, now, single] = [0, 0, false];
  show();
}

/** What an action leads to. */
async function dream(from, action) {
  const { numCodes } = world.card.space;
  const made = await world.step(from.state, action);
  const scale = 1 / Math.log(numCodes);
  const sorted = [...made.entropy].sort((a, b) => b - a).slice(0, Math.max(1, made.entropy.length / SHARE));
  const reward = world.card.outcomes ? made.reward : 0;
  return {
    state: made.state,
    frame: made.state.frame,
    tokens: made.tokens,
    passes: made.passes,
    patches: Uint8Array.from(made.entropy, (value) => Math.min(255, Math.round(255 * value * scale))),
    entropy: (2 * scale * sorted.reduce((a, b) => a + b, 0)) / sorted.length,
    reward,
    total: from.total + reward,
    ended: world.card.outcomes && Math.random() < made.termination,
  };
}

async function step() {
  const { idle } = world.card.hello;
  if (moment().ended && !session.beyond) return void (session.paused = true);
  const { tapped, held } = session;
  let action = tapped !== null && (held === -1 || held === idle) ? tapped : held;
  session.tapped = null;
  if (action === -1 && !single) return;
  if (action === -1) action = idle;
  const [key, number] = [session.key, begun];
  session.beyond = single = false;
  moments.length = now - first + 1; // what came after this moment is forgotten
  const made = await dream(moment(), action);
  if (number !== begun || moments.length !== now - first + 1) return; // rewound or begun again
  moments.push(made);
  now += 1;
  if (moments.length > DEPTH + 1) {
    moments.shift();
    first += 1;
  }
  if (session.film) {
    session.film.push(made.frame);
    if (made.ended || session.film.length >= LONGEST) endFilm();
  }
  if (made.ended) session.paused = true;
  show(key);
}

/** Step whenever a frame is due; frames that are late are dropped. */
async function run() {
  clearTimeout(timer);
  const present = performance.now();
  if (world && moments.length && (single || (!session.paused && present >= due - 1))) {
    due = Math.max(due + 1000 / session.fps, present);
    await inTurn(step);
  }
  const wait = session.paused ? 20 : Math.max(0, due - performance.now());
  timer = setTimeout(run, wait);
}

function show(key = session.key) {
  const { reward, total, entropy, ended, frame, patches } = moment();
  postMessage({
    frame: {
      now,
      first,
      key,
      end: first + moments.length - 1,
      earliest: first,
      seed: session.seed,
      paused: session.paused,
      opening: false,
      fps: session.fps,
      driver: "",
      recording: session.film ? session.film.length - 1 : -1,
      dreams: [{ reward, total, entropy, ended, frame, patches }],
      real: null,
    },
  });
}

async function endFilm() {
  const frames = session.film;
  session.film = null;
  if (!frames || frames.length < 2) return;
  const { encodeGif } = await import("./gif.js");
  postMessage({ film: { frames: frames.length, gif: encodeGif(frames, world.card.size, session.fps) } });
}

const wishes = {
  act(action, key) {
    const { idle } = world.card.hello;
    if (key > session.key && !session.paused && action !== -1 && action !== idle) session.tapped = action;
    Object.assign(session, { held: action, key });
  },
  pause: (on) => Object.assign(session, { paused: on, beyond: !on }),
  step() {
    single = true;
    Object.assign(session, { paused: true, beyond: true });
  },
  speed: (fps) => Object.assign(session, { fps }),
  reset: (seed) => inTurn(() => reset(seed)),
  rewind(frames) {
    now = Math.max(first + moments.length - 1 - frames, first);
    session.paused = true;
  },
  record(on) {
    if (on) session.film = [moment().frame];
    else endFilm();
  },
};

/** For tests and benchmarks: step through actions at a temperature as fast as possible. */
async function measure({ seed, actions, temperature }) {
  begun += 1;
  session.paused = true;
  const before = world.sampling.temperature;
  if (temperature !== null) world.sampling.temperature = temperature;
  let state = await world.begin(seed);
  const [tokens, times, passes, rewards] = [[], [], [], []];
  for (const action of actions) {
    const begin = performance.now();
    const made = await world.step(state, action);
    times.push(performance.now() - begin);
    state = made.state;
    tokens.push([...made.tokens]);
    passes.push(made.passes);
    rewards.push(made.reward);
  }
  world.sampling.temperature = before;
  postMessage({ measured: { tokens, times, passes, rewards } });
}

onmessage = async ({ data: { open: folder, measure: wanted, wish, value, key } }) => {
  try {
    if (folder) return void (await open(folder), run());
    if (wanted) return void (await inTurn(() => measure(wanted)));
    if (!world || !moments.length || !wishes[wish]) return;
    await wishes[wish](value, key);
    if (wish !== "act") show();
    if (wish === "step") run();
  } catch (fault) {
    postMessage({ failed: String(fault?.message ?? fault) });
  }
};
