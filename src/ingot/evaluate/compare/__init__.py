"""Saved reports against each other: paired tests, and gates whose power is stated."""
