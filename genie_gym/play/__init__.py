"""`genie-gym play`: a local web page for playing a dream next to the real game."""
