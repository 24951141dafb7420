"""One-off experiments, and scripts that draw figures for the docs; run: `genie-gym bench NAME`."""
