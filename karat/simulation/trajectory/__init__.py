"""Trajectory files written while a run goes on, checkpoints, and how fast it goes."""
