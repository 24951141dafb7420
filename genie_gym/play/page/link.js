// The connection to the server. It sends commands, and unpacks the frames that come.

/** One picture of the session: numbers and pixels, as packed by genie_gym/play/packet.py. */
function unpack(buffer, size, grid) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  const take = (count) => {
    const part = new Uint8Array(buffer, at, count);
    at += count;
    return part;
  };
  for (const dream of head.dreams) {
    dream.frame = take(size * size * 3);
    dream.patches = take(grid * grid);
  }
  if (head.real) head.real.frame = take(size * size * 3);
  return head;
}

export class Link {
  /** `on` has the functions hello, frame, notice, film and closed. */
  constructor(on) {
    this.on = on;
    this.key = 0;
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/socket`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => this.receive(data);
    this.socket.onclose = ({ reason }) => this.on.closed(reason);
  }

  receive(data) {
    if (typeof data === "string") {
      for (const [kind, value] of Object.entries(JSON.parse(data))) {
        if (kind === "hello") [this.size, this.grid] = [value.size, value.grid];
        this.on[kind](value);
      }
    } else {
      this.on.frame(unpack(data, this.size, this.grid));
    }
  }

  /** Send a command to the server; some commands have no value. */
  send(command, value) {
    if (this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ do: command, value, key: this.key }));
    }
  }

  /** Hold an action; returns the number of this key press, which later frames repeat. */
  act(action, press) {
    if (press) this.key += 1;
    this.send("act", action);
    return this.key;
  }
}
