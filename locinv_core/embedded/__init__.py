"""The embedded world: scenes that the pack draws, and the small models trained on them."""
