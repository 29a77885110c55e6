"""Models of mace-torch, read by karat."""
