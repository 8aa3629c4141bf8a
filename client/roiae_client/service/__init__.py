"""A hospital's running service, and whether it reaches its coordinator."""
