"""Checks of the embedded networks on held-out scenes."""
