"""The laboratory's one door to Flower: engines that run simulated hospitals."""
