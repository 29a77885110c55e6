"""Dynamics, normal modes, torsion scans: what a potential does in motion."""
