"""The shipped model's folder, as a package so that an installed program finds it. `asr.load()` reads it."""
