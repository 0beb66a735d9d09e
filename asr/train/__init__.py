"""Training and evaluation of acoustic models. Needs the ``train`` extra; recognition needs none of it."""
