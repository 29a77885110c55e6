"""Work of the forces around closed loops: zero for forces that are a gradient."""
