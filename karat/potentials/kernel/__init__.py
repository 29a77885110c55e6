"""Potentials: kernel."""
