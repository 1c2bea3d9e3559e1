"""What touches ComfyUI's internals: types, tensors, previews, progress, memory."""
