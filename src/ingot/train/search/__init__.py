"""Trying settings of a method in short runs before the whole one."""
