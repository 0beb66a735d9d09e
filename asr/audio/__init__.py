"""Audio: bytes and files to float32 samples at the network's rate."""
