"""The network: samples to features, features to logits."""
