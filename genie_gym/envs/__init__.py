"""The environments: one vector base, the real games, and what they share."""
