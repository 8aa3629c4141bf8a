"""The only public port of a coordinator."""
