"""Ablations of LocInv."""
