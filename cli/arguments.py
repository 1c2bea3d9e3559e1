"""Arguments that several commands share."""

from __future__ import annotations


def check_seed(seed: int) -> None:
    """Raise ValueError for a seed that some random number generator or method does not take."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: got {seed}, requires a whole number from 0 on, of at most 64 bits")
