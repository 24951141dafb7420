"""The improvement loop: explore where a world model is uncertain, fine-tune it, repeat."""
