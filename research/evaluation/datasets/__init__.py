"""Data sets: readers and builders."""
