"""Metrics of edits."""
