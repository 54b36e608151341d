"""Sentences with a gap, which every kind of network can fill: items, scores, and their page."""
