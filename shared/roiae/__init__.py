"""The science and the contracts of roiae: pure torch, numpy and scikit-learn, never Flower."""
