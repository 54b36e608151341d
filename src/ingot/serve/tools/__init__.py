"""Calling functions: how a model's template writes calls, and how they are read back out of an answer."""
