"""Dreaming: a trained tokenizer and a trained dynamics model simulate a game together."""
