"""From one text to another: summaries, translations, answers."""
