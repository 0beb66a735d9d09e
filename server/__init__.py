"""The WebSocket server. Not written yet: this release has the engine, file transcription and training."""
