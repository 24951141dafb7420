"""Collects episodes from any env of this package with any policy."""
