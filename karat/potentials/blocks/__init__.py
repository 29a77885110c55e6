"""Blocks that several native potentials are built of."""
