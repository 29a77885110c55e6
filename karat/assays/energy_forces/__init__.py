"""Energies and forces on kept-apart structures."""
