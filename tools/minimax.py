"""Print the polynomial coefficients of the elementary functions in ``fastxent/_kernels/``.

Weighted Remez exchange in 60-digit arithmetic; the coefficients are then rounded to the working format and
the error of the rounded polynomial is printed beside them. Needs mpmath.

Source: Muller et al., "Handbook of Floating-Point Arithmetic", 2nd ed. (2018), chapter 10;
Remez exchange: Cheney, "Introduction to Approximation Theory", chapter 3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 60
Function = Callable[[mp.mpf], mp.mpf]


def horner(coefficients: list[mp.mpf], x: mp.mpf) -> mp.mpf:
    """Value at `x` of the polynomial whose coefficients are given from the constant term on."""
    value = mp.mpf(0)
    for c in reversed(coefficients):
        value = value * x + c
    return value


def remez(f: Function, weight: Function, degree: int, a: mp.mpf, b: mp.mpf) -> list[mp.mpf]:
    """Polynomial of `degree` with the smallest largest ``weight * |p - f|`` on [a, b]."""
    n = degree + 2
    nodes = [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * n)) for k in range(n)]
    for _ in range(12):
        system = mp.matrix(n, n)
        right = mp.matrix(n, 1)
        for i, x in enumerate(nodes):
            for j in range(degree + 1):
                system[i, j] = x**j
            system[i, degree + 1] = (-1) ** i / weight(x)
            right[i] = f(x)
        solution = mp.lu_solve(system, right)
        p = [solution[j] for j in range(degree + 1)]
        grid = [a + (b - a) * (1 - mp.cos(mp.pi * k / 1500)) / 2 for k in range(1501)]
        errors = [weight(x) * (horner(p, x) - f(x)) for x in grid]
        # one extremum of the error for each run of equal sign
        extrema: list[tuple[mp.mpf, mp.mpf]] = []
        for x, e in zip(grid, errors, strict=True):
            if extrema and (extrema[-1][1] > 0) == (e > 0):
                if abs(e) > abs(extrema[-1][1]):
                    extrema[-1] = (x, e)
            else:
                extrema.append((x, e))
        while len(extrema) > n:
            extrema.pop(0 if abs(extrema[0][1]) < abs(extrema[-1][1]) else -1)
        if len(extrema) < n:
            break
        nodes = [x for x, _ in extrema]
    return p


def rounded(p: list[mp.mpf], single: bool) -> list[float]:
    """The coefficients in float32 or float64."""
    if single:
        return [struct.unpack("f", struct.pack("f", float(c)))[0] for c in p]
    return [float(c) for c in p]


def report(name: str, p: list[float], error: Function, a: mp.mpf, b: mp.mpf) -> None:
    """Print the coefficients and the largest error on a grid."""
    worst = max(abs(error(a + (b - a) * k / 1000)) for k in range(1001) if a + (b - a) * k / 1000 != 0)
    print(f"{name}: largest relative error {mp.nstr(worst, 3)}")
    for k, c in enumerate(p):
        print(f"    q{k} = {c!r}  ({c.hex()})")


def exponential(degree: int, single: bool, steps: int = 1) -> None:
    """e^r = 1 + r + r^2 q(r) on |r| <= ln2 / 2 / steps, with a little room for the rounding of the reduction."""
    b = mp.log(2) / 2 / steps * mp.mpf("1.001" if steps == 1 else "1.01")

    def tail(r: mp.mpf) -> mp.mpf:
        if abs(r) < mp.mpf(10) ** -12:
            return mp.mpf(1) / 2 + r / 6
        return (mp.exp(r) - 1 - r) / r**2

    # the weight r^2 would vanish at 0, where Remez needs a finite level: keep it above a floor
    q = rounded(remez(tail, lambda r: max(r**2, b**2 / 400) / mp.exp(r), degree - 2, -b, b), single)
    report(
        f"exp, degree {degree}, {'float32' if single else 'float64'}, {steps} steps a binade",
        q,
        lambda r: (1 + r + r**2 * horner([mp.mpf(c) for c in q], r)) / mp.exp(r) - 1,
        -b,
        b,
    )


def logarithm(terms: int) -> None:
    """log((1 + s) / (1 - s)) = 2 s + s^3 q(s^2) on [sqrt(1/2), sqrt(2)], that is |s| <= 3 - 2 sqrt(2)."""
    z_max = (3 - 2 * mp.sqrt(2)) ** 2 * mp.mpf("1.001")

    def tail(z: mp.mpf) -> mp.mpf:
        s = mp.sqrt(z)
        return mp.mpf(2) / 3 if z < mp.mpf(10) ** -12 else (mp.log((1 + s) / (1 - s)) - 2 * s) / (z * s)

    q = rounded(remez(tail, lambda z: max(z, z_max / 100), terms - 1, mp.mpf(0), z_max), False)

    def error(z: mp.mpf) -> mp.mpf:
        s = mp.sqrt(z)
        return (2 + z * horner([mp.mpf(c) for c in q], z)) * s / mp.log((1 + s) / (1 - s)) - 1

    report(f"log, {terms} terms", q, error, mp.mpf(0), z_max)


def logarithm_without_division(degree: int, a: mp.mpf, b: mp.mpf) -> None:
    """log(1 + f) = f + f^2 q(f) on [a, b], in float32."""

    def tail(f: mp.mpf) -> mp.mpf:
        return f / 3 - mp.mpf(1) / 2 if abs(f) < mp.mpf(10) ** -12 else (mp.log1p(f) - f) / f**2

    def weight(f: mp.mpf) -> mp.mpf:
        return max(f**2, b**2 / 400) / (abs(mp.log1p(f)) if abs(f) > b / 20 else b / 20)

    q = rounded(remez(tail, weight, degree - 2, a, b), True)
    value = [mp.mpf(c) for c in q]
    report(
        f"log(1 + f) up to {mp.nstr(b, 3)}, degree {degree}, float32",
        q,
        lambda f: (f + f**2 * horner(value, f)) / mp.log1p(f) - 1,
        a,
        b,
    )


def exponential_less_one(degree: int) -> None:
    """e^r - 1 = r + r^2 q(r) on |r| <= ln2 / 2, in float32; float64 takes the polynomial of the exponential."""
    b = mp.log(2) / 2 * mp.mpf("1.001")

    def tail(r: mp.mpf) -> mp.mpf:
        return mp.mpf(1) / 2 + r / 6 if abs(r) < mp.mpf(10) ** -12 else (mp.expm1(r) - r) / r**2

    q = rounded(remez(tail, lambda r: max(abs(r), b / 20), degree - 2, -b, b), True)
    value = [mp.mpf(c) for c in q]
    report(f"e^r - 1, degree {degree}, float32", q, lambda r: (r + r**2 * horner(value, r)) / mp.expm1(r) - 1, -b, b)


def artanh(terms: int, single: bool, most: int = 3) -> None:
    """log((1 + z) / (1 - z)) = 2 z + z^3 q(z^2) on 0 <= z <= 1 / most; 1/3: log(1 + f) for -1/2 <= f <= 1."""
    z2_max = mp.mpf(1) / most**2 * mp.mpf("1.0001")

    def tail(z2: mp.mpf) -> mp.mpf:
        z = mp.sqrt(z2)
        return mp.mpf(2) / 3 if z2 < mp.mpf(10) ** -12 else (2 * mp.atanh(z) - 2 * z) / (z2 * z)

    q = rounded(remez(tail, lambda z2: max(z2, z2_max / 100), terms - 1, mp.mpf(0), z2_max), single)

    def error(z2: mp.mpf) -> mp.mpf:
        z = mp.sqrt(z2)
        return (2 + z2 * horner([mp.mpf(c) for c in q], z2)) * z / (2 * mp.atanh(z)) - 1

    report(f"2 artanh, {terms} terms, {'float32' if single else 'float64'}", q, error, mp.mpf(0), z2_max)


def jensen(terms: int) -> None:
    """(1 + z) log(1 + z) + (1 - z) log(1 - z) = z^2 (1 + z^2 q(z^2)) on 0 <= z <= 1/2."""
    z2_max = mp.mpf(1) / 4 * mp.mpf("1.0001")

    def whole(z2: mp.mpf) -> mp.mpf:
        z = mp.sqrt(z2)
        return (1 + z) * mp.log1p(z) + (1 - z) * mp.log1p(-z)

    def tail(z2: mp.mpf) -> mp.mpf:
        return mp.mpf(1) / 6 if z2 < mp.mpf(10) ** -15 else (whole(z2) / z2 - 1) / z2

    q = rounded(remez(tail, lambda z2: max(z2, z2_max / 100), terms - 1, mp.mpf(0), z2_max), True)

    def error(z2: mp.mpf) -> mp.mpf:
        return z2 * (1 + z2 * horner([mp.mpf(c) for c in q], z2)) / whole(z2) - 1

    report(f"Jensen-Shannon, {terms} terms, float32", q, error, mp.mpf(0), z2_max)


if __name__ == "__main__":
    exponential(5, True)
    exponential(4, True, 4)
    exponential(6, True)
    exponential(7, False)
    exponential(11, False)
    exponential(12, False)
    logarithm(4)
    logarithm(7)
    logarithm(8)
    artanh(4, True)
    artanh(5, True, 2)
    artanh(9, False)
    jensen(5)
    logarithm_without_division(10, (mp.sqrt(mp.mpf(1) / 2) - 1) * mp.mpf("1.001"), (mp.sqrt(2) - 1) * mp.mpf("1.001"))
    logarithm_without_division(10, mp.mpf(0), mp.mpf(1))
    exponential_less_one(7)
    for name, bits in (("float32", 24), ("float64", 53)):
        high = mp.mpf(mp.nint(mp.log(2) * 2 ** (bits + 0))) / 2 ** (bits + 0)
        low = mp.log(2) - high
        print(f"ln2 {name}: {float(high)!r} + {float(low)!r}; log2(e) = {float(1 / mp.log(2))!r}")
