"""Evaluates worlds: draws windows of real play, generates them anew, scores the result."""
