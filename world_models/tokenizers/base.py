"""Which class a tokenizer's configuration asks for."""

from __future__ import annotations

from world_models.changes import ChangeTokenizer
from world_models.exemplars import ExemplarTokenizer
from world_models.tokenizer import Tokenizer, TokenizerConfig

__all__ = ["build_tokenizer"]


def build_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """The tokenizer of a configuration, untrained."""
    if config.painter == "exemplars":
        return ExemplarTokenizer(config)
    return ChangeTokenizer(config) if config.context else Tokenizer(config)
