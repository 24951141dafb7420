"""World models (tokenizer, latent actions, dynamics), their training, and episodes on disk."""
