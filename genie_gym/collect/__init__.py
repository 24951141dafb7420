"""Collects episodes from any env that has frames, with any policy."""
