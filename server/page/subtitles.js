// Subtitles in SubRip's format, from the words of finals.

const LONGEST_S = 6;
const LONGEST_CHARS = 84; // two lines of 42

export function toSrt(words) {
  const cues = [];
  for (const word of words) {
    const cue = cues.at(-1);
    const fits =
      cue &&
      !word.first &&
      word.end - cue.start <= LONGEST_S &&
      cue.text.length + 1 + word.text.length <= LONGEST_CHARS;
    if (fits) Object.assign(cue, { end: word.end, text: `${cue.text} ${word.text}` });
    else cues.push({ start: word.start, end: word.end, text: word.text });
  }
  return cues.map((cue, i) => `${i + 1}\n${clock(cue.start)} --> ${clock(cue.end)}\n${cue.text}\n`).join("\n");
}

function clock(seconds) {
  const ms = Math.round(seconds * 1000);
  const part = (value, digits) => String(value).padStart(digits, "0");
  const [h, m, s] = [Math.floor(ms / 3600000), Math.floor(ms / 60000) % 60, Math.floor(ms / 1000) % 60];
  return `${part(h, 2)}:${part(m, 2)}:${part(s, 2)},${part(ms % 1000, 3)}`;
}
