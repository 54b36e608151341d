"""Verbs on adapters: show one, add several, take one out of weights, make one of two models."""
