// Measures the frames per second, and the time from a key press to the frame that shows its effect.

const KEEP = 200; // measurements

export class Meter {
  constructor() {
    this.times = []; // when frames were drawn
    this.delays = []; // milliseconds from a key press to the first frame after it
    this.open = new Map(); // number of a key press -> when it happened
    this.now = -1;
    this.total = 0; // frames drawn
  }

  /** A key press with this number happened at `stamp`. */
  asked(number, stamp) {
    this.open.set(number, stamp);
  }

  /** A frame was drawn; it is on the screen when the browser asks for the next one. */
  drawn(frame) {
    const advanced = frame.now !== this.now;
    if (advanced) {
      this.total += 1;
      this.times.push(performance.now());
    }
    if (this.times.length > KEEP) this.times.shift();
    this.now = frame.now;
    const seen = advanced ? [...this.open].filter(([number]) => number <= frame.key) : [];
    if (!seen.length) return;
    seen.forEach(([number]) => this.open.delete(number));
    requestAnimationFrame((shown) => {
      for (const [, stamp] of seen) this.delays.push(shown - stamp);
      while (this.delays.length > KEEP) this.delays.shift();
    });
  }

  /** Frames per second over the last seconds. */
  rate(seconds = 2) {
    const since = performance.now() - seconds * 1000;
    return this.times.filter((time) => time > since).length / seconds;
  }

  /** The median delay of the last key presses, in milliseconds. */
  delay(count = 20) {
    const last = this.delays.slice(-count).sort((a, b) => a - b);
    return last.length ? last[last.length >> 1] : null;
  }

  text() {
    const delay = this.delay();
    const rate = `${this.rate().toFixed(0)} frames/s`;
    return delay === null ? rate : `${rate} · ${delay.toFixed(0)} ms from key to picture`;
  }
}
