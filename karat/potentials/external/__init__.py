"""Potentials: external."""
