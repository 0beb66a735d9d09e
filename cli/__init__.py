"""The ``asr`` command. Each subcommand is a module here; the engine knows nothing of terminals."""
