"""Collects episodes from any env in this package with any policy."""
