"""One-off experiments, and scripts that draw pictures for the docs: `genie-gym bench NAME`."""
