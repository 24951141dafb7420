"""Motion tokenizers, whose tokens describe what changes from one frame to the next.

A token either copies its patch from a displaced position in the previous frame (`displacement`), or
replaces the patch with new content: with a code of a residual VQ (`residual_vq`), or with a patch
from a codebook of real patches (`patch_codebook`). New content is used only where copying does not
reproduce the frame, so everything that stands still or scrolls is exact and needs no capacity.
"""
