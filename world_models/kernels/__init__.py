"""Operations with hand-written fast versions, one module each.

Every module has a plain version of its operation, fast versions, and one function that chooses
between them. All versions agree up to rounding error. There are two kinds of fast versions:

* a hand-written gradient that reads and writes memory less often than autograd's gradient;
* the operation and its gradient, each compiled into one loop. They are used inside the context
  manager `fused_kernels`.
"""
