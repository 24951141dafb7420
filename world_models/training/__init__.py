"""Training: one loop for every model that has a method ``loss(batch) -> (loss, metrics)``.

Importing this package imports none of its modules, because `world_models.training.fit` imports
Lightning Fabric, which takes seconds.
"""
