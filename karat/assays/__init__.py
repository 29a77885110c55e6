"""Assays: one folder per family: cases, measure, score."""
