"""Pinpoint: change the thing you name in a picture and nothing else."""
