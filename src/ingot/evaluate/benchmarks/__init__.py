"""Benchmarks: tasks as small files, asked as lm-eval asks them, with the shared beginning of prompts read once."""
