"""Potentials: linear."""
