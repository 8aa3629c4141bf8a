"""What would ruin a run: a hospital's data looked over before the first round, on its own machine."""
