"""Scores of the field, from the same numbers that are exported: run the reference tools on the files to check."""
