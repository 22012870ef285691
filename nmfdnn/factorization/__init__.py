"""Factorizations A ≈ ZW of matrices whose rows are samples: codes Z (n × k), weights W (k × m).

======================================  ================================  =====================
function                                objective                         constraints
======================================  ================================  =====================
`nmf`                                   ½‖A − ZW‖² or ΣV d_β(A | ZW)      Z ≥ 0, W ≥ 0
`semi_nmf`                              ½‖A − ZW‖² or ½ΣV(A − ZW)²        Z ≥ 0, W free
`nonlinear_semi_nmf`                    ½‖A − f(ZW)‖², f = ReLU           Z ≥ 0 or free, W free
`OnlineNMF`                             ½‖A − ZW‖² of a stream            Z ≥ 0, W ≥ 0
`transform`                             ½‖A − ZW‖² or ΣV d_β(A | ZW)      W given, Z ≥ 0
`nonlinear_transform`                   ½‖A − f(ZW)‖²                     W given, Z ≥ 0
`nonlinear_least_squares`               ½‖B − f(AW)‖² or ½‖B − f(ZA)‖²    W free or Z ≥ 0
======================================  ================================  =====================

V (n × m) are weights of entries, zero for what is missing; d_β is half the square (β = 2), Kullback &
Leibler's divergence (1) or Itakura & Saito's (0); a `Penalty` adds l1 and l2 norms of Z and W. `choose_rank`
finds k by entries that are held out.

`nmf`, `semi_nmf`, `OnlineNMF` and `transform` take sparse A too, and never make it dense (`sparse`): all
its entries count alike, and β is not 0.

The same code runs in float32 and float64, on CPU and CUDA, without autograd, on data in any unit. Every
function returns a `Result`. `nmf`, `semi_nmf` and `nonlinear_semi_nmf` also take a `Solver` of your own; the
single updates (`*_step`) are public for those who build their own alternations: they check nothing, and what
they multiply must be representable. `affine`, `augmented` and `split_bias` are plain tensor expressions,
through which autograd can pass.
"""

from .accelerated import Accelerated
from .alternation import Alternation, nonlinear_semi_nmf_step
from .bias import affine, augmented, split_bias
from .driver import Result, Solver, Stopping
from .exact import Exact, exact_code_step, improved_weights
from .hals import HALS, hals_step
from .inputs import Pair
from .latent import Latent
from .least_squares import code_step, nonlinear_least_squares, weight_factors, weight_step
from .multiplicative import Multiplicative, multiplicative_step
from .nmf import nmf
from .nonlinear_semi_nmf import nonlinear_semi_nmf
from .nonlinear_transform import nonlinear_transform
from .objective import Objective
from .online import OnlineNMF
from .penalty import Penalty
from .rank_choice import RankChoice, choose_rank
from .regularisation import Regularisation, counted, least_squares_weights
from .semi_multiplicative import SemiMultiplicative, multiplicative_code_step, semi_nmf_step
from .semi_nmf import semi_nmf
from .transform import transform

__all__ = [
    "HALS",
    "Accelerated",
    "Alternation",
    "Exact",
    "Latent",
    "Multiplicative",
    "Objective",
    "OnlineNMF",
    "Pair",
    "Penalty",
    "RankChoice",
    "Regularisation",
    "Result",
    "SemiMultiplicative",
    "Solver",
    "Stopping",
    "affine",
    "augmented",
    "choose_rank",
    "code_step",
    "counted",
    "exact_code_step",
    "hals_step",
    "improved_weights",
    "least_squares_weights",
    "multiplicative_code_step",
    "multiplicative_step",
    "nmf",
    "nonlinear_least_squares",
    "nonlinear_semi_nmf",
    "nonlinear_semi_nmf_step",
    "nonlinear_transform",
    "semi_nmf",
    "semi_nmf_step",
    "split_bias",
    "transform",
    "weight_factors",
    "weight_step",
]
