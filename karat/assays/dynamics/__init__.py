"""Constant-energy dynamics: drift, fluctuation, bonds, survival."""
