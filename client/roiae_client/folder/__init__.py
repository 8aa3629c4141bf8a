"""A hospital's folder: its settings, its keys, its state."""
