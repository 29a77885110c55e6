"""Potentials: native."""
