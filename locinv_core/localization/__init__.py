"""Localization: priors, losses (LocInv Eq. 5 to 8), token optimization, Algorithm 1."""
