"""What was asked: the study file, its guards and arms, and whether the data allow it. No torch, no Ray."""
