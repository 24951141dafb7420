"""Tokenizers whose tokens say what changes from one frame to the next.

A token either moves its patch (`displacement`), or replaces what moving gets wrong: with a code of
a residual VQ (`residual_vq`) or with a patch from a codebook of real patches (`patch_codebook`).
What stands still or scrolls is then exact and costs no capacity.
"""
