"""Searches for whole answers, where the engine draws one token after the other."""
