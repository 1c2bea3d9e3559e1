"""Editing: Prompt-to-Prompt, local blend, attribute preservation."""
