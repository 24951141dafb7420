"""Exports world models as folders of static files that run in the visitor's browser."""
