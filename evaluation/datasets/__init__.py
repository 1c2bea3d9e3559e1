"""The data sets: Scene-Edit and COCO-Edit are built here, PIE-Bench and scenes.json are read."""
