"""Reference collections: energies of reactions in the widest sense; packages outside the code."""
