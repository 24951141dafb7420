"""World bundles: trained worlds on disk. Importing this loads no torch."""
