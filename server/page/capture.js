// Runs beside the audio: gathers a tenth of a second of samples, as 16-bit integers, and posts them with their peak.

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Int16Array(Math.round(sampleRate / 10));
    this.filled = 0;
    this.peak = 0;
  }

  process(inputs) {
    const channels = inputs[0];
    const length = channels.length ? channels[0].length : 0;
    for (let i = 0; i < length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      const value = Math.max(-1, Math.min(1, sum / channels.length));
      this.peak = Math.max(this.peak, Math.abs(value));
      this.samples[this.filled++] = Math.min(32767, Math.round(value * 32768));
      if (this.filled === this.samples.length) this.post();
    }
    return true;
  }

  post() {
    const pcm = this.samples.slice().buffer;
    this.port.postMessage({ pcm, peak: this.peak }, [pcm]);
    this.filled = 0;
    this.peak = 0;
  }
}

registerProcessor("capture", Capture);
