"""The search: logits to words, their times and confidences, and the ends of utterances."""
