"""Potentials: analytic."""
