"""What trajectories say: correlated averages, structure, transport, thermodynamics. NumPy only."""
