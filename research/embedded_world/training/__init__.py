"""Training: recipe, loop, state and optimizers."""
