"""A hospital machine."""
