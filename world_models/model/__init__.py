"""Networks: transformer, dynamics, outcome head and latent action model."""
