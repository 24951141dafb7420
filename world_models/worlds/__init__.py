"""World bundles: trained world models on disk. Importing this package does not load torch."""
