"""Episodes in and out: pictures, Minari, the GenieRedux layout, and the `data` commands."""
