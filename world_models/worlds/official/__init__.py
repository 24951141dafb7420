"""Reads checkpoints of the official GenieRedux code, and converts them to a `WorldModel`."""
