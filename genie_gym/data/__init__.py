"""Import and export of episodes (pictures, Minari, GenieRedux), and the `data` commands."""
