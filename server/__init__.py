"""The WebSocket server: many live streams over one recogniser.

`asr.server.codec` is the vocabulary between wire protocols and the engine; `asr.server.vosk` and
`asr.server.native` are such protocols, without any input or output; `asr.server.scheduler` advances all
streams together in a thread of its own; `asr.server.connection` and `asr.server.app` do the input and output.
Whole files come over HTTP: `asr.server.transcription` is that protocol, `asr.server.http`, `asr.server.upload` and
`asr.server.transcribing` its input and output; `asr.server.front` tells the two kinds of connection apart.
"""
