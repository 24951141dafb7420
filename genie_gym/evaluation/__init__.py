"""Compares dreams with real play: draw windows of it, dream them, score the dreams."""
