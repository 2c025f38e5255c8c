"""What may be concluded from noisy runs. Pure NumPy and SciPy: no files, no Ray, no Optuna.

values     plans, requirements, bounds, verdicts, advice; needs no SciPy
bounds     one-sided bounds of a difference of two means over seeds
jackknife  the test set's own error, by leaving out each source image in turn
collapse   trainings that fail, which no t distribution covers
levels     how often one may err, per look and per rank
decision   accepted, rejected, inconclusive or invalid
planning   how many seeds would decide it, and when only more labels would

Conventions: a *gain* is oriented, so more is better. Arrays carry leading axes `(...,)` for many studies at
once, so that `benchmarks/verdict.py` simulates this very code. A level is the one-sided probability of an
error.
"""
