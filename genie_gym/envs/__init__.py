"""The environments: a shared vector base, the real games, and dreams."""
