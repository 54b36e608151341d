"""Sentences about a man as sentences about a woman, and back, in English and Traditional Chinese."""
