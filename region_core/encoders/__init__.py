"""Encoders: CLIP and ViT, and opening them."""
