// Streams a file with OpenAI's own package, pointed at another server, which it wants to speak TLS.
//
//     node realtime.mjs ADDRESS PCM_FILE CLIENT     prints one JSON event a line
//
// CLIENT is node or browser: the package has one for each.

import fs from "node:fs";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { OpenAIRealtimeWebSocket } from "openai/realtime/websocket";
import { WebSocket } from "ws";

globalThis.WebSocket ??= WebSocket; // browsers have it, and newer versions of Node
const [address, path, kind] = process.argv.slice(2);
const client = new OpenAI({ apiKey: "correct-horse", baseURL: address.replace(/^ws:/, "https:") + "/v1" });
const Realtime = kind === "browser" ? OpenAIRealtimeWebSocket : OpenAIRealtimeWS;
const realtime = new Realtime({ model: "asr" }, client);
const rate = 16000;
realtime.on("event", (event) => console.log(JSON.stringify(event)));
realtime.on("error", (error) => {
  console.error(error.message);
  process.exit(1);
});
realtime.on("session.created", () => {
  const input = { format: { type: "audio/pcm", rate }, turn_detection: null };
  realtime.send({ type: "session.update", session: { type: "transcription", audio: { input } } });
});
realtime.on("session.updated", () => {
  const pcm = fs.readFileSync(path);
  for (let at = 0; at < pcm.length; at += 6400) {
    const audio = pcm.subarray(at, at + 6400).toString("base64");
    realtime.send({ type: "input_audio_buffer.append", audio });
  }
  realtime.send({ type: "input_audio_buffer.commit" });
});
realtime.on("conversation.item.input_audio_transcription.completed", () => {
  realtime.close();
  process.exit(0);
});
