"""Builds a world from a game to a bundle, in stages that can be interrupted and resumed."""
