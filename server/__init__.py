"""The WebSocket server: many live streams over one recogniser.

`asr.server.codec` is the vocabulary between wire protocols and the engine; `asr.server.vosk`, `asr.server.native`,
`asr.server.deepgram`, `asr.server.realtime` and `asr.server.wyoming` are such protocols, without any input or output;
`asr.server.scheduler` advances all streams together in a thread of its own; `asr.server.connection`,
`asr.server.app` and `asr.server.listener` do the input and output, `asr.server.answers` what needs no stream;
`asr.server.process` and `asr.server.workers` run it all.
Whole files come over HTTP: `asr.server.transcription` and `asr.server.deepgram_file` are the protocols,
`asr.server.http`, `asr.server.upload` and `asr.server.transcribing` the input and output; `asr.server.front` tells the
two kinds of connection apart.
"""
