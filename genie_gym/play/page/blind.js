// The page of a blind test: it shows a real clip between two others, and asks which is nearer.

import { Screen, crispSide } from "/page/screen.js";

const $ = (id) => document.getElementById(id);
const names = { left: "Left", real: "Real game", right: "Right" };
const screens = Object.fromEntries(
  Object.entries(names).map(([which, name]) => {
    const screen = new Screen($("screens"), which === "real" ? "real" : "dream");
    screen.caption(name, "");
    screen.element.classList.add(which);
    return [which, screen];
  }),
);
let test = null; // what the server says about the test
let clips = null; // the frames of the trial that is shown
let begun = 0;
let busy = true;

async function start() {
  test = await (await fetch("/trials")).json();
  if (test.summary) return finish(test.summary);
  await show();
  requestAnimationFrame(draw);
}

async function show() {
  busy = true;
  const trial = test.left[0];
  const parts = await Promise.all(
    Object.keys(names).map(async (which) => {
      const answer = await fetch(`/clips/${trial}/${which}`);
      return [which, new Uint8Array(await answer.arrayBuffer())];
    }),
  );
  clips = Object.fromEntries(parts);
  const done = test.trials - test.left.length;
  $("progress").textContent = `Question ${done + 1} of ${test.trials}`;
  $("bar").style.width = `${(100 * done) / test.trials}%`;
  begun = performance.now();
  busy = false;
}

function draw(now) {
  if (!test.left.length) return;
  const bytes = test.size * test.size * 3;
  const count = clips.real.length / bytes;
  const rest = test.fps; // the last frame stays for a second
  const at = Math.min(count - 1, Math.floor((((now - begun) / 1000) * test.fps) % (count + rest)));
  const room = $("screens");
  const perRow = getComputedStyle(room).flexWrap === "wrap" ? 2 : 3;
  const side = Math.min(352, (room.clientWidth - 16 * (perRow - 1) - 12) / perRow);
  room.style.setProperty("--side", `${crispSide(side, test.size)}px`);
  for (const [which, screen] of Object.entries(screens)) {
    screen.draw(clips[which].subarray(at * bytes, (at + 1) * bytes), test.size);
  }
  requestAnimationFrame(draw);
}

async function answer(side) {
  if (busy) return;
  busy = true;
  const sent = await fetch("/answers", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ trial: test.left[0], side }),
  }).catch(() => ({ ok: false, status: 0 }));
  if (!sent.ok && sent.status !== 409) {
    $("toast").textContent = "The answer did not arrive. Is the server still running?";
    $("toast").hidden = false;
    busy = false;
    return;
  }
  $("toast").hidden = true;
  test.left.shift();
  if (test.left.length) await show();
  else await start();
}

function finish({ sources, nearer, answers, share_of_first: share, interval_95: [low, high] }) {
  const percent = (part) => `${Math.round(100 * part)} %`;
  $("question").hidden = true;
  $("result").hidden = false;
  $("progress").textContent = "Done";
  const [first, second] = sources;
  $("verdict").textContent =
    low > 0.5 ? `${first} is nearer to the real game.`
    : high < 0.5 ? `${second} is nearer to the real game.`
    : "These answers do not tell which one is nearer.";
  $("first").textContent = `${first}: ${nearer[first]}`;
  $("second").textContent = `${second}: ${nearer[second]}`;
  $("share").firstElementChild.style.width = `${100 * share}%`;
  Object.assign($("share").lastElementChild.style, { left: `${100 * low}%`, width: `${100 * (high - low)}%` });
  $("detail").textContent =
    `${first} was nearer in ${percent(share)} of ${answers} answers (95 % interval: ${percent(low)} to ${percent(high)}).`;
}

for (const side of ["left", "right"]) {
  $(side).addEventListener("click", () => answer(side));
  screens[side].element.addEventListener("click", () => answer(side));
}
$("again").addEventListener("click", () => {
  begun = performance.now();
  $("again").blur();
});
window.addEventListener("keydown", ({ code, repeat }) => {
  if (repeat || $("question").hidden) return;
  if (code === "ArrowLeft") answer("left");
  if (code === "ArrowRight") answer("right");
  if (code === "Space" && document.activeElement === document.body) begun = performance.now();
});
start();
