"""The small models that the regions need, trained from scratch on drawn scenes: a CLIP, a DINO, an aMUSEd."""
