"""Training: one loop for every model with ``loss(batch) -> (loss, metrics)``.

This package imports nothing by itself, because importing Lightning Fabric
(`world_models.training.fit`) takes seconds.
"""
