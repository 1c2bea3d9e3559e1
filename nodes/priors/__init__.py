"""Nodes of priors: given by the user, detected by other packs, or found by a network."""
