"""Motion tokenizers, whose tokens describe what changes from one frame to the next.

A token moves its patch (`displacement`). If that does not reproduce the frame, the token instead
replaces the patch: with a code of a residual VQ (`residual_vq`), or with a patch from a codebook of
real patches (`patch_codebook`). So everything that stands still or scrolls is reproduced exactly
and needs no capacity.
"""
