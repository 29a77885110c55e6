"""Candidates → structures worth labelling."""
