// Keyboard, on-screen buttons and gamepads become one action of the world's action set.

const KEYS = {
  RIGHT: ["ArrowRight", "KeyD"],
  LEFT: ["ArrowLeft", "KeyA"],
  UP: ["ArrowUp", "KeyW"],
  DOWN: ["ArrowDown", "KeyS"],
  JUMP: ["Space", "KeyZ"],
  SECONDARY: ["KeyX", "ShiftLeft"],
};
const SPARE = ["KeyJ", "KeyK", "KeyL", "KeyU", "KeyI", "KeyY", "KeyM", "Comma"]; // unknown inputs
const SHOWN = { ArrowRight: "→", ArrowLeft: "←", ArrowUp: "↑", ArrowDown: "↓", Space: "␣" };
const PAD_BUTTONS = { JUMP: [0, 3], SECONDARY: [1, 2], UP: [12], DOWN: [13], LEFT: [14], RIGHT: [15] };
const TILT = 0.5; // of a gamepad's stick, from which a direction counts

/** What to call a key on a key cap. */
export function keyName(code) {
  return SHOWN[code] ?? code.replace("Key", "").replace("ShiftLeft", "shift").toLowerCase();
}

/** The inputs that an action needs: JUMP-RIGHT needs two. */
export function inputsOf(meaning) {
  return meaning === "NOOP" ? [] : meaning.split("-");
}

/** The keys of each input of an action set. */
export function keysOf(meanings) {
  const inputs = [...new Set(meanings.flatMap(inputsOf))];
  const spare = [...SPARE];
  const keys = Object.fromEntries(inputs.map((name) => [name, KEYS[name] ?? [spare.shift()]]));
  if (keys.JUMP && !keys.UP) keys.JUMP = [...keys.JUMP, ...KEYS.UP];
  return keys;
}

export class Controls {
  /**
   * `changed(action, stamp, press)` is called when the action changes, because of a press or a
   * release; `stamp` is the time of the event.
   * `pressed()` is called when a player presses anything.
   */
  constructor(changed, pressed = () => {}) {
    this.changed = changed;
    this.pressed = pressed;
    this.held = new Map(); // what holds an input (a key, a finger, a gamepad) -> input
    this.meanings = [];
    this.idle = 0;
    this.action = 0;
    this.buttons = [];
    window.addEventListener("keydown", (event) => this.keydown(event));
    window.addEventListener("keyup", (event) => this.release(event.code, event.timeStamp));
    window.addEventListener("blur", () => this.releaseAll());
    requestAnimationFrame((now) => this.poll(now));
  }

  /** Play another world. `idle` is the action without a key; -1 waits for one. */
  use(meanings, idle) {
    this.meanings = meanings;
    this.keys = keysOf(meanings);
    this.inputOf = new Map();
    for (const [input, codes] of Object.entries(this.keys)) {
      for (const code of codes) this.inputOf.set(code, input);
    }
    this.setIdle(idle);
  }

  setIdle(idle) {
    this.idle = idle;
    this.releaseAll();
  }

  press(holder, input, stamp) {
    if (this.held.get(holder) === input) return;
    this.held.set(holder, input);
    this.pressed();
    this.update(stamp, true);
  }

  release(holder, stamp) {
    if (this.held.delete(holder)) this.update(stamp);
  }

  releaseAll() {
    this.held.clear();
    this.update(performance.now());
  }

  /** Of the actions that the held inputs allow, the one with the most inputs, then the newest. */
  chosen() {
    const held = [...this.held.values()];
    let best = this.idle;
    let rank = [0, -1];
    this.meanings.forEach((meaning, action) => {
      const needs = inputsOf(meaning);
      if (!needs.length || !needs.every((input) => held.includes(input))) return;
      const newest = Math.max(...needs.map((input) => held.lastIndexOf(input)));
      if (needs.length > rank[0] || (needs.length === rank[0] && newest > rank[1])) {
        [best, rank] = [action, [needs.length, newest]];
      }
    });
    return best;
  }

  update(stamp, press = false) {
    const action = this.chosen();
    for (const { element, meaning } of this.buttons) {
      element.classList.toggle("held", this.meanings[action] === meaning);
    }
    if (action !== this.action) {
      this.action = action;
      this.changed(action, stamp, press);
    }
  }

  keydown(event) {
    const input = this.inputOf?.get(event.code);
    const busy = event.target.closest?.("input, select, textarea");
    const clicks = event.code === "Space" && event.target.closest?.("button, summary, a");
    if (!input || busy || clicks || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (!event.repeat) this.press(event.code, input, event.timeStamp);
  }

  /** A button that holds the inputs of one action while it is pressed. */
  button(meaning, content) {
    const element = document.createElement("button");
    element.type = "button";
    element.className = "key";
    element.tabIndex = -1;
    element.dataset.action = meaning;
    element.append(...content);
    const names = inputsOf(meaning);
    element.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      element.setPointerCapture?.(event.pointerId);
      names.forEach((input) => this.press(`${event.pointerId} ${meaning} ${input}`, input, event.timeStamp));
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      element.addEventListener(end, (event) => {
        names.forEach((input) => this.release(`${event.pointerId} ${meaning} ${input}`, event.timeStamp));
      });
    }
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    this.buttons.push({ element, meaning });
    return element;
  }

  /** The legend: every action of the set with its keys; it can be pressed, too. */
  legend(parent) {
    this.buttons = [];
    parent.replaceChildren();
    for (const meaning of this.meanings) {
      const caps = inputsOf(meaning).map((input) => {
        const cap = document.createElement("kbd");
        cap.textContent = keyName(this.keys[input][0]);
        return cap;
      });
      const text = document.createElement("span");
      text.textContent = meaning.toLowerCase().replace("-", " ").replace("noop", "no key");
      if (caps.length) parent.append(this.button(meaning, [...caps, text]));
    }
  }

  /** Buttons for thumbs: directions on the left, the rest on the right. */
  touch(parent) {
    const known = ["UP", "LEFT", "RIGHT", "DOWN"];
    const cross = document.createElement("div");
    cross.className = "cross";
    const fists = document.createElement("div");
    fists.className = "fists";
    for (const input of Object.keys(this.keys)) {
      const alone = this.meanings.includes(input) ? input : null;
      if (alone === null) continue;
      const text = document.createElement("span");
      text.textContent = known.includes(input) ? keyName(KEYS[input][0]) : input.toLowerCase();
      const button = this.button(alone, [text]);
      button.classList.add(`to-${input.toLowerCase()}`);
      (known.includes(input) ? cross : fists).append(button);
    }
    parent.replaceChildren(cross, fists);
  }

  poll(now) {
    for (const pad of navigator.getGamepads?.() ?? []) {
      if (!pad || !this.keys) continue;
      const [x = 0, y = 0] = pad.axes;
      const tilted = { RIGHT: x > TILT, LEFT: x < -TILT, DOWN: y > TILT, UP: y < -TILT };
      for (const input of Object.keys(this.keys)) {
        const down = tilted[input] || (PAD_BUTTONS[input] ?? []).some((at) => pad.buttons[at]?.pressed);
        if (down) this.press(`pad ${pad.index} ${input}`, input, now);
        else this.release(`pad ${pad.index} ${input}`, now);
      }
    }
    requestAnimationFrame((next) => this.poll(next));
  }
}
