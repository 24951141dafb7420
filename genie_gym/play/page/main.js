// The page of `genie-gym play`: it shows the server's frames and sends the player's commands.

import { Controls } from "./controls.js";
import { Curve } from "./curves.js";
import { Link } from "./link.js";
import { Meter } from "./meter.js";
import { Screen, crispSide } from "./screen.js";

const $ = (id) => document.getElementById(id);
const screens = { first: new Screen($("screens"), "dream"), second: new Screen($("screens"), "dream other"), real: new Screen($("screens"), "real") };
const curves = {
  entropy: new Curve($("curves"), "Unsure", "", { first: "--dream", second: "--other" }),
  psnr: new Curve($("curves"), "PSNR to the real game", " dB", { psnr: "--ceiling" }),
  reward: new Curve($("curves"), "Reward so far", "", { first: "--dream", second: "--other", real: "--real" }),
};
curves.reward.least = 1;
const meter = new Meter();
let world = null;
let newest = null; // the newest frame, drawn or not
let shown = null; // the frame that was drawn last
let waiting = false; // whether it waits to be drawn
let dragging = false;

const controls = new Controls(
  (action, stamp, press) => {
    const number = link.act(action, press);
    if (press) meter.asked(number, stamp);
  },
  () => {
    if (newest?.driver) link.send("driver", ""); // whoever presses a key takes over
  },
);

const link = new Link({
  hello: begin,
  frame(frame) {
    newest = frame;
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  },
  notice: toast,
  film: addFilm,
  closed(reason) {
    $("status").textContent = "not connected";
    const again = document.createElement("button");
    again.textContent = "Connect again";
    again.onclick = () => location.reload();
    $("banner").replaceChildren(sentence(reason || "The connection to the server was lost"), again);
    $("banner").hidden = false;
    link.lost = true;
  },
});
window.play = { link, meter, get frame() { return shown; } }; // for the browser's console, and for tests

// Showing ----------------------------------------------------------------------------------

function begin(hello) {
  world = hello;
  document.title = `${world.world} · genie-gym play`;
  choices($("world"), world.worlds, world.world);
  choices($("driver"), ["", ...world.drivers], "", (name) => name || "you");
  controls.use(world.actions, world.idle);
  controls.legend($("legend"));
  controls.touch($("pad"));
  document.body.classList.toggle("alone", Boolean(world.alone)); // without a server
  $("idle-field").hidden = world.actions.includes("NOOP");
  choices($("idle"), ["-1", ...world.actions.keys()], world.idle, (at) => (at < 0 ? "time stops" : world.actions[at].toLowerCase()));
  Object.values(curves).forEach((curve) => curve.clear());
}

function draw() {
  waiting = false;
  const frame = newest;
  const [first, second] = frame.dreams;
  const { real } = frame;
  const live = second ?? first;
  const size = world.size;
  const over = (dream) => ({
    ghost: $("ghost").checked && real ? real.frame : null,
    patches: $("unsure").checked ? dream.patches : null,
    grid: world.grid,
  });
  screens.first.draw(first.frame, size, over(first));
  screens.first.caption(second ? "Branch 1" : "Dream", numbers(first));
  screens.second.element.hidden = !second;
  if (second) {
    screens.second.draw(second.frame, size, over(second));
    screens.second.caption("Branch 2", numbers(second));
  }
  screens.real.element.hidden = !real;
  if (real) {
    screens.real.draw(real.frame, size);
    screens.real.caption("Real game", numbers(real));
  }
  link.send("got", frame.now);
  meter.drawn(frame);
  buttons(frame, live);
  const values = { first: first.entropy, second: second?.entropy };
  curves.entropy.add(frame.now, values);
  curves.psnr.add(frame.now, { psnr: real?.psnr });
  curves.reward.add(frame.now, { first: first.total, second: second?.total, real: real?.total });
  Object.values(curves).forEach((curve) => curve.draw(frame.now));
  curves.psnr.element.classList.toggle("off", !real);
  shown = frame;
  fit(1 + Boolean(second) + Boolean(real));
}

function numbers({ total, entropy, ended }) {
  const reward = `reward ${Math.abs(total) < 0.05 ? 0 : total.toFixed(1)}`;
  return ended ? `${reward} · over` : reward;
}

function buttons(frame, live) {
  const over = live.ended && frame.now === frame.end;
  icon($("pause"), frame.paused ? "go" : "pause", frame.paused ? "Go on" : "Pause");
  $("pause").setAttribute("aria-pressed", frame.paused);
  $("rewind").max = frame.end - frame.earliest;
  if (!dragging) $("rewind").value = frame.now - frame.earliest;
  $("rewind").style.setProperty("--full", `${(100 * (frame.now - frame.earliest)) / Math.max(1, frame.end - frame.earliest)}%`);
  $("moment").textContent = frame.now === frame.end ? `frame ${frame.now}` : `${frame.now - frame.end} of ${frame.end}`;
  if (document.activeElement !== $("seed")) $("seed").value = frame.seed;
  $("speed").value = frame.fps;
  $("driver").value = frame.driver;
  $("real").checked = Boolean(frame.real);
  $("ghost").disabled = $("dream-on").disabled = !frame.real;
  $("branch").hidden = frame.dreams.length > 1;
  keepers(frame.dreams.length > 1);
  const recording = frame.recording >= 0;
  icon($("record"), recording ? "stop" : "record", recording ? `Stop (${frame.recording} frames)` : "Record");
  $("record").classList.toggle("on", recording);
  if (link.lost) return;
  $("banner").hidden = !(frame.opening || over);
  $("banner").replaceChildren(
    sentence(frame.opening ? "Loading" : "The dream predicts the end here. R begins again, P goes on"),
  );
}

function keepers(two) {
  for (const [at, screen] of [screens.first, screens.second].entries()) {
    if (!screen.keep) {
      screen.keep = document.createElement("button");
      screen.keep.className = "keep";
      screen.keep.textContent = "Keep";
      screen.keep.onclick = () => link.send("keep", at);
      screen.label.append(screen.keep);
    }
    screen.keep.hidden = !two;
  }
}

function fit(count) {
  const room = $("screens");
  const style = getComputedStyle(room);
  const gap = parseFloat(style.columnGap) || 0;
  const perRow = style.flexWrap === "wrap" ? Math.min(count, 2) : count;
  const width = (room.clientWidth - gap * (perRow - 1) - 12) / perRow; // 12 for the bezels
  const tall = parseFloat(style.getPropertyValue("--tall"));
  room.style.setProperty("--side", `${crispSide(Math.min(width, tall), world.size)}px`);
}

function icon(button, name, text) {
  const [picture, label] = [button.querySelector("use"), button.querySelector("span")];
  if (picture.getAttribute("href") !== `#i-${name}`) picture.setAttribute("href", `#i-${name}`);
  if (label.textContent !== text) label.textContent = text;
}

function sentence(text) {
  const element = document.createElement("p");
  element.textContent = text.endsWith(".") ? text : `${text}.`;
  return element;
}

function choices(select, values, chosen, show = (value) => value) {
  select.replaceChildren(...[...values].map((value) => new Option(show(value), value)));
  select.value = chosen;
}

let toastEnds = 0;
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastEnds);
  toastEnds = setTimeout(() => ($("toast").hidden = true), 6000);
}

function addFilm({ frames, dataset, gif, mp4 }) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  name.textContent = `${frames} frames`;
  const kinds = [["GIF", gif], ["MP4", mp4]].filter(([, href]) => href);
  const links = kinds.map(([text, href]) => {
    const link = document.createElement("a");
    const download = href.startsWith("blob:") ? `${world.world}.${text.toLowerCase()}` : "";
    Object.assign(link, { textContent: text, href, download });
    return link;
  });
  const where = document.createElement("small");
  where.textContent = dataset ? `Episode in ${dataset}` : "";
  item.append(name, ...links, where);
  $("films").prepend(item);
}

setInterval(() => {
  if (!link.lost && newest) $("status").textContent = meter.text();
}, 500);

// Asking -----------------------------------------------------------------------------------

const wishes = {
  pause: () => link.send("pause", !newest.paused),
  step: () => link.send("step"),
  reset: () => link.send("reset", Number($("seed").value)),
  next: () => link.send("reset", newest.seed + 1),
  branch: () => link.send("branch"),
  record: () => link.send("record", newest.recording < 0),
  "dream-on": () => link.send("dream_on"),
};
const KEYS = { KeyP: "pause", KeyN: "step", KeyR: "reset", KeyF: "next", KeyB: "branch", KeyC: "record", KeyO: "dream-on", KeyT: "real", KeyG: "ghost", KeyE: "unsure" };

for (const [id, wish] of Object.entries(wishes)) {
  $(id).addEventListener("click", () => {
    wish();
    $(id).blur();
  });
}
const onChange = (id, react) =>
  $(id).addEventListener("change", (event) => {
    react(event.target);
    if (event.target.type !== "range") event.target.blur();
  });
onChange("world", ({ value }) => link.send("world", value));
onChange("driver", ({ value }) => link.send("driver", value));
onChange("speed", ({ value }) => link.send("speed", Number(value)));
onChange("seed", ({ value }) => link.send("reset", Math.max(0, Math.floor(Number(value)) || 0)));
onChange("idle", ({ value }) => controls.setIdle(Number(value)));
onChange("real", ({ checked }) => link.send("real", checked));
for (const id of ["ghost", "unsure"]) onChange(id, () => draw());

$("rewind").addEventListener("input", ({ target }) => link.send("rewind", Number(target.max) - Number(target.value)));
for (const [name, on] of [["pointerdown", true], ["pointerup", false], ["pointercancel", false]]) {
  $("rewind").addEventListener(name, () => (dragging = on));
}
$("rewind").addEventListener("pointerup", () => $("rewind").blur());

window.addEventListener("keydown", (event) => {
  const busy = event.target.closest?.("input:not([type=range]):not([type=checkbox]), select");
  if (busy || event.repeat || event.ctrlKey || event.metaKey || event.altKey || !newest) return;
  const id = controls.inputOf?.has(event.code) ? null : KEYS[event.code];
  if (id && !$(id).disabled && !$(id).hidden) $(id).click();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden && newest && !newest.paused) link.send("pause", true);
});
window.addEventListener("resize", () => newest && draw());
