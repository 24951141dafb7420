"""World bundles: trained worlds on disk. Importing this package does not load torch."""
