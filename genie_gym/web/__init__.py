"""Worlds as folders of static files that dream in the browser of whoever opens them."""
