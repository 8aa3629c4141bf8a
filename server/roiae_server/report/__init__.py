"""What a run shows at its end."""
