"""Measures of dreams against the real game."""
