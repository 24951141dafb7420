"""A report to read in a browser: one HTML file that asks the network for nothing."""
