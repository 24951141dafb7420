"""`genie-gym play`: a page on this machine to play a dream beside its real game."""
