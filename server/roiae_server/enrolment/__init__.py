"""A coordinator's folder: its authority, the sites that are enrolled, its configuration."""
