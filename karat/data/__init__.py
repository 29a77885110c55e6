"""Labelled datasets: readers, the data doctor, splits."""
