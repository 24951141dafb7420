"""Motion tokenizers, whose tokens describe what changes from one frame to the next.

A token either moves its patch (`displacement`) or, if that does not reproduce the frame, replaces
it with a code of a residual VQ (`residual_vq`) or with a patch from a codebook of real patches
(`patch_codebook`). So everything that stands still or scrolls is exact and needs no capacity.
"""
