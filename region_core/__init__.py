"""Learnable regions: where to edit a picture when nobody says where (Lin et al., 2024)."""
