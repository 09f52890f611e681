"""Extractive question answering: everything of it."""
