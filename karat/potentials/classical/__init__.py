"""Potentials: classical."""
