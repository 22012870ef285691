"""The methods as scikit-learn estimators, for `Pipeline`, `GridSearchCV` and everything else that takes them.

==========================  =======================================================================
`NMF`                       A ≈ ZW, Z ≥ 0 and W ≥ 0
`SemiNMF`                   A ≈ ZW, Z ≥ 0
`NonlinearSemiNMF`          A ≈ f(ZW), Z ≥ 0, f = ReLU
`NMFAutoencoder`            stacked NMF autoencoders: the pre-training of a network, as a transformer
`NMFNetworkClassifier`      a ReLU network trained by alternation, for classes
`NMFNetworkRegressor`       the same, for real values
==========================  =======================================================================

Samples are arrays, data frames, or tensors; what comes out is of the kind that went in (`set_output` chooses
another). `NMF` and `SemiNMF` take sparse samples too, of SciPy or torch, and give dense codes.
"""

from .autoencoder import NMFAutoencoder
from .factorizations import NMF, NonlinearSemiNMF, SemiNMF
from .networks import NMFNetworkClassifier, NMFNetworkRegressor

__all__ = [
    "NMF",
    "NMFAutoencoder",
    "NMFNetworkClassifier",
    "NMFNetworkRegressor",
    "NonlinearSemiNMF",
    "SemiNMF",
]
