"""Covariances of local energies, by gpytorch, and the choice of inducing environments."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np

from dftbparam.delta.descriptors import INSTALL, Array, Integers
from dftbparam.errors import EngineMissing, ParameterError

KINDS: Final = ("matern52", "rbf", "rq")
"""Matérn 5/2, squared exponential, rational quadratic (α = 1: lengths of all sizes)."""

JITTER: Final = 1e-9
"""Added to the diagonal of kernel matrices (which is 1) before their Cholesky factor: with environments chosen down to
`TOLERANCE`, factors then exist in double precision, and predictions change by less than 1e-4 of the prior's."""

TOLERANCE: Final = 1e-7
"""Environments whose prior variance is explained by the chosen ones to this part are not chosen."""

NEAR: Final = 1e-14
"""Added to squared distances (whose training mean is 1) under the root, where its derivative would be infinite."""


def gpytorch_modules() -> tuple[Any, Any]:
    """Return the modules torch and gpytorch; `EngineMissing` with the line that installs them."""
    try:
        with warnings.catch_warnings():
            # Importing gpytorch sets off notices of torch's that are none of a user's business.
            warnings.simplefilter("ignore", DeprecationWarning)
            import gpytorch
            import torch
    except ImportError as error:
        raise EngineMissing(f"delta models need gpytorch ({error}); {INSTALL}") from None
    return torch, gpytorch


@dataclass(frozen=True)
class RadialKernel:
    """A stationary covariance κ(t) of the squared distance t, with κ(0) = 1.

    Attributes
    ----------
    kind
        One of `KINDS`.
    length
        Its length; distances are in units of the root mean squared distance of training environments.
    """

    kind: str = "matern52"
    length: float = 1.0

    def __post_init__(self) -> None:
        """Refuse kernels that there are not, with `ParameterError`."""
        if self.kind not in KINDS:
            raise ParameterError(f"kernel {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if not 1e-3 <= self.length <= 1e3:
            raise ParameterError(f"kernel length {self.length}; it must be between 1e-3 and 1e3")

    def __call__(self, t: Array) -> tuple[Array, Array]:
        """Return κ and dκ/dt at squared distances of any shape."""
        torch, _ = gpytorch_modules()
        kernel = _module(self.kind, self.length)
        distance = np.sqrt(np.maximum(t, 0.0) + NEAR)
        with torch.enable_grad():
            r = torch.from_numpy(distance.reshape(-1, 1)).requires_grad_(True)
            k = kernel(r, torch.zeros_like(r), diag=True)
            (slope,) = torch.autograd.grad(k.sum(), r)
        value: Array = k.detach().numpy().reshape(t.shape)
        derivative: Array = slope.numpy().reshape(t.shape) / (2.0 * distance)
        return value, derivative

    def matrix(self, first: Array, second: Array | None = None) -> Array:
        """Covariance of the rows of one table, or of two, (n, m)."""
        torch, _ = gpytorch_modules()
        kernel = _module(self.kind, self.length)
        with torch.no_grad():
            a = torch.from_numpy(np.ascontiguousarray(first))
            b = a if second is None else torch.from_numpy(np.ascontiguousarray(second))
            found: Array = kernel(a, b).to_dense().numpy()
        return found


@cache
def _module(kind: str, length: float) -> Any:
    """The kernel of gpytorch in double precision."""
    torch, gpytorch = gpytorch_modules()
    kernels = gpytorch.kernels
    if kind == "matern52":
        kernel = kernels.MaternKernel(nu=2.5)
    elif kind == "rbf":
        kernel = kernels.RBFKernel()
    else:
        kernel = kernels.RQKernel()
    kernel = kernel.double()
    # As tensors: plain numbers would go through single precision.
    kernel.lengthscale = torch.tensor(length, dtype=torch.float64)
    if kind == "rq":
        kernel.alpha = torch.tensor(1.0, dtype=torch.float64)
    kernel.requires_grad_(False)
    return kernel.eval()


def choose(kernel: RadialKernel, points: Array, count: int) -> Integers:
    """Choose the rows of ``points`` (n, q) that explain most, by pivoted Cholesky decomposition of their covariance.

    Each is the one whose variance is least explained by those before it (S. Fine, K. Scheinberg, JMLR 2, 243 (2001)).
    Ends at ``count``, or where nothing is left above `TOLERANCE`.
    """
    n = len(points)
    count = min(count, n)
    factor = np.zeros((count, n))
    left = np.ones(n)
    square = np.einsum("nq,nq->n", points, points)
    chosen: list[int] = []
    for k in range(count):
        pivot = int(np.argmax(left))
        if left[pivot] < TOLERANCE:
            break
        t = np.maximum(square + square[pivot] - 2.0 * (points @ points[pivot]), 0.0)
        row = kernel(t)[0] - factor[:k].T @ factor[:k, pivot]
        factor[k] = row / np.sqrt(left[pivot])
        left = np.maximum(left - factor[k] ** 2, 0.0)
        left[pivot] = 0.0
        chosen.append(pivot)
    return np.array(chosen, dtype=np.int64)


def cholesky(kernel: RadialKernel, points: Array) -> Array:
    """Lower Cholesky factor of the covariance of the rows of ``points``, with `JITTER`."""
    matrix = kernel.matrix(points)
    return np.asarray(np.linalg.cholesky(matrix + JITTER * np.eye(len(points))), dtype=np.float64)
