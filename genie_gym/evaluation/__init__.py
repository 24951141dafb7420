"""Evaluates worlds: draws windows of real play, generates the same windows, scores them."""
