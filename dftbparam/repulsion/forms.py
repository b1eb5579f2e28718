"""Repulsive potentials that need parameters per element only: any pair of elements follows.

Notation: R distance, A and B the two atoms, Z nuclear charge, r covalent radius; Bohr and Hartree. Every form is
positive, falls monotonically, is the same for A-B and B-A (bit for bit), and gives for two equal atoms the curve that
the element's own values describe.

``screened-nuclear``
    V = Z_A Z_B / R erfc(R / sqrt(a_A^2 + a_B^2)), a = sigma r: two nuclei smeared into Gaussians, the form of PTBP
    (Cui, Reuter, Margraf, J. Chem. Theory Comput. 20, 5276 (2024)); one parameter, sigma. Taken as zero below
    `NEGLIGIBLE`.
``screened-power``
    V = z_A z_B / R exp(-w), w = (R / lambda)^n / (1 - (R / c)^4), with lambda = (lambda_A + lambda_B) / 2,
    n = (n_A + n_B) / 2 and the cutoff c = 2 s_A + 2 s_B, s = max(r, 1 Bohr). Three parameters: z, lambda, n.

    It is the form of the GFN methods (Grimme, Bannwarth, Shushkov, J. Chem. Theory Comput. 13, 1989 (2017)) with the
    exponent n free and the range finite. The charges multiply, as charges do. Lengths are averaged, so that the
    exponent where two atoms touch (R = r_A + r_B) stays what it is for the elements if lambda scales with r. n is
    averaged because between 1 (Yukawa) and 3 R V is log-concave and V convex (below), for the mean as for either.
    The denominator takes V to zero at c with all derivatives; c does not depend on the parameters, so lists of
    neighbours survive an optimisation. Fitted to the published PTBP curves (typically z = 0.65 Z, lambda = 0.55 r,
    n = 1.9) it follows them within 10 % from 1e-4 to 3 Hartree for 43 of 75 elements: that set lies near its reach.

    V is convex without the denominator: with u = (R / lambda)^n, R^2 V''/V = 2 + n (3 - n) u + (n u)^2 > 0 for n <= 3.
``convex-cubic``
    V = A (1 - R / c)^k below the cutoff c = c_A + c_B, with A = sqrt(A_A A_B) and k = (k_A + k_B) / 2 >= 3: convex,
    and C2 at the cutoff. Three parameters: amplitude A, cutoff radius c_A, exponent k. The amplitude is averaged
    geometrically (Berthelot's rule) because it spans orders of magnitude; radii add, as atoms' radii do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import isfinite, pi, sqrt
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

from dftbparam.errors import ParameterError
from dftbparam.space import Parameter

Array = NDArray[np.float64]
Three = tuple[Array, Array, Array]

NEGLIGIBLE: Final = 1e-8
"""Hartree: a repulsion this small is taken as zero (a hundredth of the agreement asked of energies)."""

_SMALLEST_SCALE: Final = 1.0
"""Bohr: hydrogen's covalent radius says little about its reach; lengths of H and He scale with this instead."""

_TWO_OVER_SQRT_PI: Final = 2.0 / sqrt(pi)


class PairPotential(ABC):
    """The repulsion between two atoms.

    Contract: immutable; distances are positive, in Bohr, an array of one axis or more; the answers have its shape, in
    Hartree (and Bohr), and are exactly zero from ``cutoff`` on.
    """

    cutoff: float
    """Distance in Bohr from which the repulsion is zero."""

    @abstractmethod
    def value(self, r: Array) -> Array:
        """V(r); the quick one, for inner loops."""

    @abstractmethod
    def evaluate(self, r: Array) -> Three:
        """V, dV/dr and d2V/dr2."""

    def __call__(self, r: Array) -> Array:
        """V(r)."""
        return self.value(r)


class RepulsionForm(ABC):
    """A way to make pair potentials from values per element.

    Attributes
    ----------
    names
        The parameters of one element, in order.
    scale
        (name, power) if the repulsion between two equal atoms is proportional to that parameter to that power: an
        optimisation may then solve for it by linear least squares. None otherwise.
    """

    name: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    scale: ClassVar[tuple[str, int] | None] = None

    @abstractmethod
    def parameters(self, number: int, radius: float) -> tuple[Parameter, ...]:
        """Search ranges for the element of nuclear charge ``number`` and covalent radius ``radius`` (Bohr)."""

    @abstractmethod
    def defaults(self, number: int, radius: float) -> dict[str, float]:
        """Values to start from; inside the ranges."""

    @abstractmethod
    def pair(
        self,
        values_a: Mapping[str, float],
        values_b: Mapping[str, float],
        *,
        numbers: tuple[int, int],
        radii: tuple[float, float],
    ) -> PairPotential:
        """Make the potential between two atoms.

        Parameters
        ----------
        values_a, values_b
            The elements' values by parameter name.
        numbers
            Nuclear charges.
        radii
            Covalent radii in Bohr.

        Raises
        ------
        ParameterError
            A value is missing, unknown, or outside what the form allows.
        """

    def homonuclear(self, values: Mapping[str, float], *, number: int, radius: float) -> PairPotential:
        """Make the potential between two equal atoms; see `pair`."""
        return self.pair(values, values, numbers=(number, number), radii=(radius, radius))

    def _take(self, values: Mapping[str, float]) -> tuple[float, ...]:
        """Return the values in order, all positive and finite."""
        if len(values) != len(self.names):
            unknown = sorted(set(values) - set(self.names))
            if unknown:
                raise ParameterError(
                    f"repulsion {self.name!r} has no parameter {unknown[0]!r}; it has: {', '.join(self.names)}"
                )
        out = []
        for name in self.names:
            value = values.get(name)
            if value is None:
                raise ParameterError(f"repulsion {self.name!r} needs the parameter {name!r} (given: {sorted(values)})")
            if not (value > 0.0 and isfinite(value)):
                raise ParameterError(f"repulsion {self.name!r}: {name} = {value} must be positive", parameter=name)
            out.append(float(value))
        return tuple(out)


def _check_radii(radii: tuple[float, float]) -> None:
    if not min(radii) > 0.0:
        raise ParameterError(f"covalent radii {radii} must be positive (Bohr)")


class _ScreenedNuclearPair(PairPotential):
    __slots__ = ("_charges", "_cutoff", "_gamma")

    def __init__(self, charges: float, gamma: float) -> None:
        self._charges = charges
        self._gamma = gamma
        self._cutoff: float | None = None

    @property
    def cutoff(self) -> float:  # type: ignore[override]
        # Found only when asked for: inner loops never do.
        if self._cutoff is None:
            low, high = 1e-3 / self._gamma, 30.0 / self._gamma
            while high - low > 1e-12 * high:
                middle = 0.5 * (low + high)
                if self._charges / middle * float(erfc(self._gamma * middle)) >= NEGLIGIBLE:
                    low = middle
                else:
                    high = middle
            self._cutoff = high
        return self._cutoff

    def value(self, r: Array) -> Array:
        v: Array = erfc(self._gamma * r)
        v *= self._charges
        v /= r
        v[v < NEGLIGIBLE] = 0.0
        return v

    def evaluate(self, r: Array) -> Three:
        r = np.asarray(r, dtype=np.float64)
        g = self._gamma
        x = g * r
        screened = erfc(x)
        gauss = _TWO_OVER_SQRT_PI * g * np.exp(-x * x)
        c = self._charges
        v = c * screened / r
        # Derivatives end where the value does, or forces would not belong to the energy.
        keep = np.where(v < NEGLIGIBLE, 0.0, 1.0)
        d1 = -c * (screened / r + gauss) / r
        d2 = 2.0 * c * ((screened / r + gauss) / (r * r) + g * g * gauss)
        return v * keep, d1 * keep, d2 * keep


class ScreenedNuclear(RepulsionForm):
    """PTBP's repulsion of screened nuclei; one parameter, ``sigma``, the width in units of the covalent radius."""

    name = "screened-nuclear"
    names = ("sigma",)

    def parameters(self, number: int, radius: float) -> tuple[Parameter, ...]:
        """Widths from 0.1 (PTBP's lower bound: Hg, Ra) to 2.5 (He) covalent radii."""
        return (Parameter("sigma", 0.1, 2.5, scale="log"),)

    def defaults(self, number: int, radius: float) -> dict[str, float]:
        """The published median."""
        return {"sigma": 0.44}

    def pair(
        self,
        values_a: Mapping[str, float],
        values_b: Mapping[str, float],
        *,
        numbers: tuple[int, int],
        radii: tuple[float, float],
    ) -> PairPotential:
        """Make the potential between two atoms; see `RepulsionForm.pair`."""
        _check_radii(radii)
        a = self._take(values_a)[0] * radii[0]
        b = self._take(values_b)[0] * radii[1]
        return _ScreenedNuclearPair(float(numbers[0]) * float(numbers[1]), 1.0 / sqrt(a * a + b * b))


class _ScreenedPowerPair(PairPotential):
    __slots__ = ("_charges", "_exponent", "_length", "cutoff")

    _FLOOR: Final = 1e-6
    """Smallest 1 - (R/c)^4: exp(-u / 1e-6) is zero in double precision for every length the form accepts."""

    def __init__(self, charges: float, length: float, exponent: float, cutoff: float) -> None:
        self._charges = charges
        self._length = length
        self._exponent = exponent
        self.cutoff = cutoff

    def value(self, r: Array) -> Array:
        t: Array = r / self.cutoff
        t *= t
        t *= t
        np.subtract(1.0, t, out=t)
        np.maximum(t, self._FLOOR, out=t)
        w: Array = (r / self._length) ** self._exponent
        w /= t
        np.negative(w, out=w)
        np.exp(w, out=w)
        w *= self._charges
        w /= r
        return w

    def evaluate(self, r: Array) -> Three:
        r = np.asarray(r, dtype=np.float64)
        n, c = self._exponent, self.cutoff
        u = (r / self._length) ** n
        t4 = (r / c) ** 4
        d = np.maximum(1.0 - t4, self._FLOOR)
        w = u / d
        # Logarithmic derivatives: R w'/w = n + 4 t4/d =: a, and R a' = 16 t4 / d^2.
        a = n + 4.0 * t4 / d
        rw1 = w * a
        rw2 = w * (a * (a - 1.0) + 16.0 * t4 / (d * d))
        v = self._charges / r * np.exp(-w)
        d1 = -v * (1.0 + rw1) / r
        d2 = v * ((1.0 + rw1) ** 2 + 1.0 - rw2) / (r * r)
        return v, d1, d2


class ScreenedPower(RepulsionForm):
    """Screened effective charges with a free exponent and a finite range; ``charge``, ``length``, ``exponent``."""

    name = "screened-power"
    names = ("charge", "length", "exponent")
    scale = ("charge", 2)

    def parameters(self, number: int, radius: float) -> tuple[Parameter, ...]:
        """Charge up to 1.5 Z, length in Bohr in proportion to the radius, exponent from Yukawa's 1 to 3."""
        size = max(radius, _SMALLEST_SCALE)
        return (
            Parameter("charge", 0.02 * number, 1.5 * number, scale="log", unit="e"),
            Parameter("length", 0.1 * size, 1.5 * size, scale="log", unit="Bohr"),
            Parameter("exponent", 1.0, 3.0),
        )

    def defaults(self, number: int, radius: float) -> dict[str, float]:
        """Close to the published PTBP curves of most elements."""
        return {"charge": 0.65 * number, "length": 0.55 * max(radius, _SMALLEST_SCALE), "exponent": 1.9}

    def pair(
        self,
        values_a: Mapping[str, float],
        values_b: Mapping[str, float],
        *,
        numbers: tuple[int, int],
        radii: tuple[float, float],
    ) -> PairPotential:
        """Make the potential between two atoms; see `RepulsionForm.pair`."""
        _check_radii(radii)
        charge_a, length_a, exponent_a = self._take(values_a)
        charge_b, length_b, exponent_b = self._take(values_b)
        for exponent in (exponent_a, exponent_b):
            if not 1.0 <= exponent <= 3.0:
                raise ParameterError(f"repulsion {self.name!r}: exponent = {exponent} must lie in [1, 3]")
        cutoff = 2.0 * (max(radii[0], _SMALLEST_SCALE) + max(radii[1], _SMALLEST_SCALE))
        length = 0.5 * (length_a + length_b)
        if length > cutoff:
            raise ParameterError(f"repulsion {self.name!r}: length = {length} exceeds the cutoff {cutoff} Bohr")
        return _ScreenedPowerPair(charge_a * charge_b, length, 0.5 * (exponent_a + exponent_b), cutoff)


class _ConvexPair(PairPotential):
    __slots__ = ("_amplitude", "_exponent", "cutoff")

    def __init__(self, amplitude: float, cutoff: float, exponent: float) -> None:
        self._amplitude = amplitude
        self._exponent = exponent
        self.cutoff = cutoff

    def value(self, r: Array) -> Array:
        x: Array = r / -self.cutoff
        x += 1.0
        np.maximum(x, 0.0, out=x)
        x **= self._exponent
        x *= self._amplitude
        return x

    def evaluate(self, r: Array) -> Three:
        k, c, amplitude = self._exponent, self.cutoff, self._amplitude
        x = np.maximum(1.0 - np.asarray(r, dtype=np.float64) / c, 0.0)
        return amplitude * x**k, -amplitude * k / c * x ** (k - 1.0), amplitude * k * (k - 1.0) / c**2 * x ** (k - 2.0)


class ConvexCubic(RepulsionForm):
    """A truncated power, cubic at its gentlest; ``amplitude``, ``cutoff`` (half of the pair's), ``exponent`` >= 3."""

    name = "convex-cubic"
    names = ("amplitude", "cutoff", "exponent")
    scale = ("amplitude", 1)

    def parameters(self, number: int, radius: float) -> tuple[Parameter, ...]:
        """Amplitude at R = 0 in Hartree, cutoff radius in Bohr in proportion to the covalent radius, exponent."""
        size = max(radius, _SMALLEST_SCALE)
        return (
            Parameter("amplitude", 1e-1, 1e5, scale="log", unit="Hartree"),
            Parameter("cutoff", 1.1 * size, 2.5 * size, unit="Bohr"),
            Parameter("exponent", 3.0, 14.0),
        )

    def defaults(self, number: int, radius: float) -> dict[str, float]:
        """Give a few hundredths of a Hartree where two atoms touch."""
        return {"amplitude": 1.0, "cutoff": 1.75 * max(radius, _SMALLEST_SCALE), "exponent": 4.0}

    def pair(
        self,
        values_a: Mapping[str, float],
        values_b: Mapping[str, float],
        *,
        numbers: tuple[int, int],
        radii: tuple[float, float],
    ) -> PairPotential:
        """Make the potential between two atoms; see `RepulsionForm.pair`. Charges and radii do not enter."""
        amplitude_a, cutoff_a, exponent_a = self._take(values_a)
        amplitude_b, cutoff_b, exponent_b = self._take(values_b)
        for exponent in (exponent_a, exponent_b):
            if exponent < 3.0:
                raise ParameterError(
                    f"repulsion {self.name!r}: exponent = {exponent} must be at least 3 (C2 at the end)"
                )
        # sqrt(A) sqrt(B) would not give A back for equal atoms; sqrt(A B) does, to the last bit or the one before.
        amplitude = amplitude_a if amplitude_a == amplitude_b else sqrt(amplitude_a * amplitude_b)
        return _ConvexPair(amplitude, cutoff_a + cutoff_b, 0.5 * (exponent_a + exponent_b))


FORMS: Final[Mapping[str, RepulsionForm]] = {
    form.name: form for form in (ScreenedNuclear(), ScreenedPower(), ConvexCubic())
}
"""Every form by name."""


def get_form(name: str) -> RepulsionForm:
    """Return a form by name; `ParameterError` lists the names there are."""
    try:
        return FORMS[name]
    except KeyError:
        raise ParameterError(f"no repulsion {name!r}; there are: {', '.join(FORMS)}", name=name) from None
