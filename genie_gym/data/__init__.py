"""Imports and exports episodes (images, Minari, GenieRedux, LeRobot) for `genie-gym data`."""
