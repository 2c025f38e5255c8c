"""What the record means: fronts, notes, comparisons, verdicts. Values in, values out."""
