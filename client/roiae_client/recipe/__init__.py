"""What this hospital allows, whatever a coordinator asks."""
