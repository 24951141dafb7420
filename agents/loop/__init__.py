"""The improvement loop: explore where a world is uncertain, fine-tune it on that data, repeat."""
