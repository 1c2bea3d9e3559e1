"""The user study: pairs of edits judged in a browser."""
