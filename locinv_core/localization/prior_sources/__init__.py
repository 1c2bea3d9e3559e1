"""Where a prior can come from: each `from_NAME.py` is a source, written `WORD=NAME:…`."""
