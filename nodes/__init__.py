"""ComfyUI nodes: each a schema and a few lines that call the core. The only folder that imports ComfyUI."""
