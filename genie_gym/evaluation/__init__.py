"""Evaluates world models: continues windows of real episodes, and scores the generated frames."""
