"""Learnable regions: where to edit an image when nobody says where (Lin et al., 2024)."""
