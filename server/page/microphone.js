// The microphone, as chunks of 16-bit samples at whatever rate the sound card has.

// What browsers do to make calls pleasant takes away from speech what a recogniser listens to.
const AS_SPOKEN = { channelCount: 1, autoGainControl: true, echoCancellation: false, noiseSuppression: false };

export class Microphone {
  // Calls onChunk({pcm, peak}) ten times a second once it has started.
  async start(onChunk) {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers give the microphone only to pages from https or from this machine (localhost).");
    }
    try {
      this.media = await navigator.mediaDevices.getUserMedia({ audio: AS_SPOKEN });
    } catch (error) {
      const reasons = {
        NotAllowedError: "The browser was not allowed to use the microphone: allow it in the address bar.",
        NotFoundError: "No microphone was found: plug one in, or transcribe a file.",
      };
      throw new Error(reasons[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule(new URL("capture.js", import.meta.url));
    this.worklet = new AudioWorkletNode(this.context, "capture", { numberOfOutputs: 0 });
    this.worklet.port.onmessage = ({ data }) => onChunk(data);
    this.context.createMediaStreamSource(this.media).connect(this.worklet);
    await this.context.resume();
  }

  get sampleRate() {
    return this.context.sampleRate;
  }

  stop() {
    this.media?.getTracks().forEach((track) => track.stop());
    this.context?.close();
  }
}

// All samples of a file that the browser can decode: 16-bit integers, mono, 16 kHz.
export async function decodeFile(file) {
  const rate = 16000;
  let audio;
  try {
    audio = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name} is no audio that this browser can decode: try WAV, MP3 or M4A.`);
  }
  const samples = new Int16Array(audio.length);
  const channels = Array.from({ length: audio.numberOfChannels }, (_, i) => audio.getChannelData(i));
  for (let i = 0; i < samples.length; i++) {
    let sum = 0;
    for (const channel of channels) sum += channel[i];
    samples[i] = Math.max(-32768, Math.min(32767, Math.round((sum / channels.length) * 32768)));
  }
  return { samples, rate };
}
