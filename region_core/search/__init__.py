"""Search strategies of ours: fewer edits, a prior over boxes."""
