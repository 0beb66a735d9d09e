"""Modern English text with capitals and punctuation, of git repositories under open licences."""
