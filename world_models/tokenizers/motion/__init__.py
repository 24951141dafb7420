"""Motion tokenizers, whose tokens describe what changes from one frame to the next.

A token either moves its patch (`displacement`) or, if that does not reproduce the frame, replaces
it: by a code of a residual VQ (`residual_vq`) or by a patch from a codebook of real patches
(`patch_codebook`). So whatever stands still or scrolls is exact and costs no capacity.
"""
