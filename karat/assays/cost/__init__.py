"""Time, memory and training cost."""
