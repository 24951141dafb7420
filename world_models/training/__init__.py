"""One loop for every model with ``loss(batch) -> (loss, metrics)``, and what surrounds it.

Importing this package loads nothing: `world_models.training.fit` imports Lightning Fabric, which
takes seconds.
"""
