"""Measures of a dream against the real game."""
