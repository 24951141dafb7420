"""Worlds that get better by themselves: explore what the world does not know, learn it, again."""
