// The page: what the buttons do, and where text is shown.

import { Live } from "./live.js";
import { Microphone, decodeFile } from "./microphone.js";
import { toSrt } from "./subtitles.js";

const byId = (id) => document.getElementById(id);
const [talk, file, level, progress, status] = ["talk", "file", "level", "progress", "status"].map(byId);
const [finals, stable, unstable, latency, token] = ["finals", "stable", "unstable", "latency", "token"].map(byId);
const [copy, srt, clear] = ["copy", "srt", "clear"].map(byId);

const FILE_CHUNK_SAMPLES = 8000;
const words = []; // of all finals, timed from the first stream's start
let before_s = 0; // length of the streams before this one
let microphone = null;
let live = null;
let busy = false; // with a file, or with starting or stopping
let lastEnd = 0; // of the last word shown, in this stream
let began = null; // when this stream's first sample was spoken, on performance.now()'s clock

token.value = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

function say(text, failed = false) {
  status.textContent = text;
  status.classList.toggle("failed", failed);
}

function open(config) {
  const address = new URL("v1/stream", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.hash = "";
  if (token.value) address.searchParams.set("token", token.value);
  lastEnd = 0;
  return new Live(address, config, { onPartial, onFinal });
}

function onPartial(message) {
  stable.textContent = message.text.slice(0, message.stable);
  unstable.textContent = message.text.slice(message.stable);
  measure(message.words);
}

function onFinal(message) {
  const line = document.createElement("p");
  line.textContent = message.text;
  finals.append(line);
  stable.textContent = unstable.textContent = "";
  measure(message.words);
  message.words.forEach((word, i) => {
    words.push({ text: word.text, start: word.start + before_s, end: word.end + before_s, first: i === 0 });
  });
  for (const button of [copy, srt, clear]) button.disabled = false;
}

function measure(heard) {
  const end = heard.at(-1)?.end ?? 0;
  if (began === null || end <= lastEnd) return;
  lastEnd = end;
  const late_ms = performance.now() - began - 1000 * end;
  if (late_ms > 0) latency.textContent = `shown ${(late_ms / 1000).toFixed(2)} s after it was said`;
}

async function start() {
  const mine = new Microphone();
  const waiting = [];
  began = null;
  say("Waiting for the microphone…");
  try {
    await mine.start((chunk) => {
      began ??= performance.now() - 100;
      level.value = chunk.peak;
      if (live) live.send(chunk.pcm);
      else waiting.push(chunk.pcm); // what is said while the connection opens is not lost
    });
    const opening = open({ sample_rate: mine.sampleRate, encoding: "s16le" });
    await opening.opened;
    waiting.forEach((pcm) => opening.send(pcm));
    live = opening;
    microphone = mine;
  } catch (error) {
    mine.stop();
    throw error;
  }
  talk.textContent = "Stop";
  say("Listening. Dark text is settled, light text may still change.");
  live.closed.catch((error) => {
    if (microphone === mine) release(error.message);
  });
}

async function stop() {
  const ending = live;
  release("Finishing…");
  before_s += await ending.end();
  say("Stopped.");
}

function release(text) {
  microphone?.stop();
  [microphone, live] = [null, null];
  level.value = 0;
  talk.textContent = "Start speaking";
  say(text);
}

async function transcribe(chosen) {
  began = null; // sent faster than it was spoken, a file says nothing of lateness
  say(`Reading ${chosen.name}…`);
  const { samples, rate } = await decodeFile(chosen);
  const stream = open({ sample_rate: rate, encoding: "s16le" });
  await stream.opened;
  progress.hidden = false;
  say(`Transcribing ${chosen.name}…`);
  try {
    for (let at = 0; at < samples.length; at += FILE_CHUNK_SAMPLES) {
      await stream.send(samples.slice(at, at + FILE_CHUNK_SAMPLES));
      progress.value = at / samples.length;
    }
    before_s += await stream.end();
  } finally {
    progress.hidden = true;
  }
  say(`${chosen.name} is done: ${Math.round(samples.length / rate)} s of audio.`);
}

// One thing at a time, and every failure is said.
async function during(action) {
  if (busy) return;
  busy = talk.disabled = file.disabled = true;
  try {
    await action();
  } catch (error) {
    say(error.message, true);
  } finally {
    busy = talk.disabled = false;
    file.disabled = microphone !== null;
  }
}

talk.addEventListener("click", () => during(microphone ? stop : start).then(() => talk.focus()));
file.addEventListener("change", () => {
  const [chosen] = file.files;
  if (chosen) during(() => transcribe(chosen)).then(() => (file.value = ""));
});

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [chosen] = event.dataTransfer.files;
  if (chosen && microphone) say("Stop speaking first, then drop the file again.", true);
  else if (chosen) during(() => transcribe(chosen));
});

copy.addEventListener("click", async () => {
  const text = [...finals.children].map((line) => line.textContent).join("\n");
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    getSelection().selectAllChildren(finals); // no clipboard without https: at least it is selected
    say("Press Ctrl+C to copy the selected text.");
  }
});

srt.addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([toSrt(words)], { type: "application/x-subrip" }));
  link.download = "transcript.srt";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});

clear.addEventListener("click", () => {
  finals.replaceChildren();
  words.length = before_s = 0;
  latency.textContent = "";
  for (const button of [copy, srt, clear]) button.disabled = true;
  say("Cleared.");
});
