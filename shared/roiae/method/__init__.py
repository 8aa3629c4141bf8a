"""The two-phase method: the network, its losses and their calibration, training, and what is measured."""
