"""Import and export of episodes (images, Minari, GenieRedux, LeRobot), and the `data` commands."""
