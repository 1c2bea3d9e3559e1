"""Images: files, padding, composites, visualizations, metrics."""
