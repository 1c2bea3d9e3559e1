"""Inversion: DDIM inversion, null-text optimization, storage."""
