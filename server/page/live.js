// One stream over the server's /v1/stream, which docs/protocol.md describes.

const FULL_BYTES = 1 << 18; // unsent audio above which `send` waits

export class Live {
  // handlers: onPartial(message), onFinal(message)
  constructor(address, config, handlers) {
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.opened = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    this.closed = new Promise((resolve, fail) => Object.assign(this, { finish: resolve, fail }));
    this.opened.catch(() => {}); // both may fail; who waits for one need not wait for the other
    this.closed.catch(() => {});
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "ready") {
        this.socket.send(JSON.stringify({ type: "config", ...config }));
        this.resolve();
      } else if (message.type === "partial") handlers.onPartial(message);
      else if (message.type === "final") handlers.onFinal(message);
      else if (message.type === "error") this.error = message.message;
      else if (message.type === "closed") this.duration = message.duration;
    };
    this.socket.onclose = ({ code, reason }) => {
      const why = this.error || reason || "the connection was lost";
      const refused = "The server refused the connection: it may be full, or need an access token.";
      this.reject(new Error(code === 1006 && !this.error ? refused : why));
      if (this.duration !== undefined) this.finish(this.duration);
      else this.fail(new Error(`The server ended the stream: ${why}.`));
    };
  }

  // Send a chunk; resolves when there is room for the next.
  async send(pcm) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.socket.send(pcm);
    while (this.socket.bufferedAmount > FULL_BYTES && this.socket.readyState === WebSocket.OPEN) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  // No more audio: resolves with the stream's length in seconds when the last final is there.
  end() {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send('{"type": "end"}');
    return this.closed;
  }
}
