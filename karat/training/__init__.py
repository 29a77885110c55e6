"""Labelled dataset + potential → fitted potential."""
