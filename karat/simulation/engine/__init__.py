"""The engine of dynamics: one compiled loop for one or many systems."""
