"""The model behind an edit: loading it, its attention, its one UNet call."""
