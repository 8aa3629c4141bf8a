"""The paper's experiment: every hospital held out in turn, every seed, every arm, and a verdict on each claim."""
