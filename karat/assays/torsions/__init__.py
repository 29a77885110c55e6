"""Torsion profiles on the reference's own relaxed scans."""
