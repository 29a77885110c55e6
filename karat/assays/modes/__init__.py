"""Normal modes at each contestant's own minimum."""
