"""How errors are weighted, made to happen."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def class_alpha(counts: npt.ArrayLike, *, power: float, cap: float) -> Floats:
    """Per-class weights from training counts.

    alpha_c is proportional to prior_c ^ -power; no two differ by more than the factor `cap`; their mean is 1.

    Args:
        counts: Training objects per class, (n_classes,). A class without objects gets the largest weight.
        power: In [0, 1]; 0 gives all ones.
        cap: Largest ratio, >= 1.

    Returns:
        (n_classes,).
    """
    prior = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    raw = (prior / prior.max()) ** -power  # (n_classes,), the most frequent class has 1
    raw = np.minimum(raw, cap)
    return raw / raw.mean()
