"""The embedded world: scenes that are drawn, and small networks that are trained on them."""
