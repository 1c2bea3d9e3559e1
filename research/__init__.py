"""Research: the evaluation, and the embedded world with its training."""
