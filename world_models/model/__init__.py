"""The networks: transformer, dynamics model, outcome head and latent action model."""
