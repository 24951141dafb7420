"""Video tokenizers, which convert frames to discrete tokens and back."""
