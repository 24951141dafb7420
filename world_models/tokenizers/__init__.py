"""Video tokenizers: frames to discrete tokens and back."""
