"""Data sets: which clips, which tags, which named split; and their audio, decoded once."""
