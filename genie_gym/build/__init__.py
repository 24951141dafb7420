"""Builds the world model of a game, in stages that can be interrupted and resumed."""
