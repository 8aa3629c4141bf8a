"""What hospital IT types."""
