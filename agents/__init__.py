"""Agents that learn in real and dreamed envs; the only layer that knows Stable-Baselines3."""
