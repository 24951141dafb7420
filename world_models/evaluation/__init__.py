"""How close a world comes to real play: windows of it, dreams of them, and their scores."""
