"""Text: the tokens of a model, what counts as the same word, and errors counted."""
