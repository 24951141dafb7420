"""Reads checkpoints from the official GenieRedux code, and converts them to a `WorldModel`."""
