"""Prompts: words, noun phrases, alignment of a source and a target."""
