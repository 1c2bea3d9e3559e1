"""Metrics of edits: what they are called, what they need, and how they are computed."""
