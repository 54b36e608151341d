"""The verb `data show`."""
