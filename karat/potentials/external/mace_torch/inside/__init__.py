"""Scripts that run inside the mace-torch environment; they never import karat."""
