"""Definitions of all measures, shown at the end of the report."""

from __future__ import annotations

__all__ = ["definitions"]


def definitions(steps: int) -> str:
    """Return the definitions as an HTML list; `steps` is the length of the dreams."""
    terms = {
        "PSNR": "&minus;10 log<sub>10</sub> of a frame's mean squared error, colours from 0 to 1, "
        "in dB; averaged over frames. A frame without error counts as 60 dB.",
        "Changed pixels": "A colour channel of the real frame differs by at least 8 of 255 from "
        "the last real frame before the dream. The squared error is averaged over these "
        "pixels of a frame; frames without any are left out.",
        "Moving pixels": "The same against the real frame one step before.",
        "SSIM": "Structural similarity, windows of 11 pixels.",
        "FID": "Distance between the feature statistics of real and dreamed frames; the features "
        "come from an image classifier (Inception), whose weights must be on this machine.",
        "Floor and ceiling": "The last prompt frame repeated; the real frames encoded and "
        "decoded by the world's tokenizer.",
        "Delta PSNR": "PSNR of the dream with the true actions minus PSNR of a dream with other "
        "actions, both against the real frame, with the same random numbers. "
        "<i>genie</i>: all actions of the dream drawn uniformly; <i>last-action</i>: only the one "
        "that leads to the frame is replaced by a different one.",
        "Precision and recall": f"The episodes are cut into stretches of {steps} steps, each "
        "dreamed from the real frames before it; stretches with and without events are weighted "
        "so that events are as rare as in play. A reward is predicted if the expected reward is at "
        "least half the usual reward; a termination, if its probability is at least one half.",
        "Flat, frozen": "A frame with less than a quarter of the usual contrast of real "
        "frames; a frame that has not changed for 50 frames.",
        "+-": "Standard error of the mean over dreams.",
    }
    items = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in terms.items())
    return f"<h2>Definitions</h2><dl>{items}</dl>"
