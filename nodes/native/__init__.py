"""Backbones over the models that ComfyUI holds: no copy of weights, whatever patches them."""
