"""Operations with hand-written fast versions, one module each.

Every module has a plain version, fast versions, and one function that chooses between them. All
versions agree up to rounding. There are two kinds of fast version:

* a hand-written gradient that reads and writes memory less often than autograd's gradient;
* the operation and its gradient, each compiled into one loop, used while `fused_kernels` is on.
"""
