"""Execution: work items, workers, a cluster."""
