"""What both sides' services need of their machine."""
