"""Object localization of ours: where the object is that the edit changes."""
