"""Region editors, one file each."""
