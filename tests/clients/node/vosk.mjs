// Streams a file to a server of the Vosk protocol the way Node programs do: everything as fast as it can be read.
//
//     node vosk.mjs ADDRESS PCM_FILE     prints one JSON message a line

import fs from "node:fs";
import WebSocket from "ws";

const [address, path] = process.argv.slice(2);
const socket = new WebSocket(address);

socket.on("open", () => {
  socket.send(JSON.stringify({ config: { sample_rate: 16000 } }));
  fs.createReadStream(path, { highWaterMark: 8000 })
    .on("data", (chunk) => socket.send(chunk))
    .on("end", () => socket.send('{"eof" : 1}'));
});
socket.on("message", (data) => console.log(JSON.stringify(JSON.parse(data))));
socket.on("close", (code) => process.exit(code === 1000 ? 0 : 1));
socket.on("error", (error) => {
  console.error(error.message);
  process.exit(1);
});
