"""Potentials as folders that ASE, OpenMM and LAMMPS can use, each with a proof that it agrees."""
