// Streams a file with Deepgram's own SDK, pointed at another server.
//
//     node deepgram.mjs ADDRESS PCM_FILE     prints one JSON message a line

import fs from "node:fs";
import { DeepgramClient } from "@deepgram/sdk";

const [address, path] = process.argv.slice(2);
const http = address.replace(/^ws/, "http");
const environment = { base: http, production: address, agent: address, agentRest: http };
const client = new DeepgramClient({ apiKey: "any", environment });
const connection = await client.listen.v1.connect({
  model: "nova-3",
  encoding: "linear16",
  sample_rate: 16000,
  interim_results: "true",
  reconnectAttempts: 0,
});
connection.on("message", (message) => console.log(JSON.stringify(message)));
connection.on("error", (error) => console.error(error.message));
const closed = new Promise((resolve) => connection.on("close", resolve));
connection.connect();
await connection.waitForOpen();
const pcm = fs.readFileSync(path);
for (let at = 0; at < pcm.length; at += 6400) connection.sendMedia(pcm.subarray(at, at + 6400));
connection.sendKeepAlive({ type: "KeepAlive" });
connection.sendFinalize({ type: "Finalize" });
connection.sendCloseStream({ type: "CloseStream" });
await closed;
process.exit(0);
