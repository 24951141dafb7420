// A thread of this page that dreams; it replaces the connection to a server.

export class Link {
  /** `on` has the functions hello, frame, notice, film and closed. */
  constructor(on) {
    this.on = on;
    this.key = 0;
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.receive(data);
    this.worker.onerror = ({ message }) => this.fail(message || "the dream's thread did not start");
    const folder = new URL("../world/", import.meta.url).href;
    this.worker.postMessage({ open: folder });
  }

  receive(message) {
    for (const [kind, value] of Object.entries(message)) {
      if (kind === "failed") this.fail(value);
      else if (kind === "measured") this.measured(value);
      else if (kind === "film") this.on.film(withLink(value));
      else this.on[kind](value);
    }
  }

  fail(reason) {
    this.on.closed(`The dream stopped: ${reason}`);
  }

  send(wish, value) {
    if (wish !== "got") this.worker.postMessage({ wish, value, key: this.key });
  }

  /** Hold an action; returns the number of this key press, which later frames repeat. */
  act(action, press) {
    if (press) this.key += 1;
    this.send("act", action);
    return this.key;
  }

  /** Dream as fast as possible, without showing it; resolves to tokens, times and passes. */
  measure(wanted) {
    return new Promise((resolve) => {
      this.measured = resolve;
      this.worker.postMessage({ measure: wanted });
    });
  }
}

function withLink({ frames, gif }) {
  return { frames, gif: URL.createObjectURL(new Blob([gif], { type: "image/gif" })) };
}
