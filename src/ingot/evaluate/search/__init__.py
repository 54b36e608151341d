"""Options of a recipe varied, to the front of what its numbers allow."""
