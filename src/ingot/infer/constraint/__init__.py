"""Structured output: what an answer's text must be, as masks over the vocabulary, and the proof at its end."""
