"""The written form: numbers, dates, money and the like as one writes them, of words as they were heard."""
