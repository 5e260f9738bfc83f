"""Hides FastAPI from workers: Taskiq imports it where it is, which takes half of their start."""

raise ImportError("workers of these tests are to start quickly, and need no FastAPI")
