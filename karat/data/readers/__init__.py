"""Readers of labelled structures: one file for each format, one catalogue."""
