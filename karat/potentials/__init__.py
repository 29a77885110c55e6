"""Contestants: everything that predicts energies and forces."""
