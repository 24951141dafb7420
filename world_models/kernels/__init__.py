"""Operations that are written out for speed, one module each.

Every module has the plain version, the fast ones beside it, and one function that chooses. All
versions compute the same but for rounding. Two kinds of fast version:

* a gradient written by hand, which passes over memory less often than the composed one;
* the operation and its gradient, each compiled into one loop, inside `fused_kernels`.
"""
