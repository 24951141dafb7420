"""What tests that compile need."""

import shutil

import pytest

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="compiling needs a C++ compiler"
)
