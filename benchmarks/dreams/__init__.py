"""Measures that compare dreams with the real game."""
