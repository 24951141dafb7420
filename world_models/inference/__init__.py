"""Dreaming: a trained tokenizer and dynamics as a simulator."""
