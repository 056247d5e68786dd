"""A model: its file, read without running it, its scores and its reasons."""
