"""Scores of texts: against references, against each other, against a corpus, under a model."""
