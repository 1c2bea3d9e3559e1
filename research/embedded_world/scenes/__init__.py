"""Scenes: what is drawn, with captions, exact masks and true edits."""
