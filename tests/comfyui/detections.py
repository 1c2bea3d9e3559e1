"""A node that stands in for other packs' detectors: it gives SEGS and BBOX of the sample's cat. Runs in ComfyUI's
process."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

SEG = namedtuple("SEG", "cropped_image cropped_mask confidence crop_region bbox label control_net_wrapper")
LEFT, TOP, RIGHT, BOTTOM = 11, 30, 57, 73


class Detections:
    """A cat, and something that is none."""

    RETURN_TYPES = ("SEGS", "BBOX", "BBOX")
    FUNCTION = "found"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {}}

    def found(self) -> tuple:
        cat = np.ones((BOTTOM - TOP, RIGHT - LEFT), np.float32)
        segs = [
            SEG(None, cat, np.array([0.9]), (LEFT, TOP, RIGHT, BOTTOM), (LEFT, TOP, RIGHT, BOTTOM), "cat", None),
            SEG(None, np.ones((9, 9)), np.array([0.8]), (100, 100, 109, 109), (100, 100, 109, 109), "face", None),
        ]
        corners, size = [[LEFT, TOP, RIGHT, BOTTOM]], [(LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP)]
        return ((128, 128), segs), corners, size


NODE_CLASS_MAPPINGS = {"Detections": Detections}
