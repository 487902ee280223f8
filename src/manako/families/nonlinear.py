"""The activation functions of an MLP, by the name that config.json has for them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def gelu_new(x: Array) -> Array:
    """GPT-2's tanh form of GELU. Source: Hendrycks and Gimpel 2016, arXiv:1606.08415, and openai/gpt-2."""
    inner = x * x
    inner *= x.dtype.type(0.044715)
    inner += 1
    inner *= x
    inner *= x.dtype.type(math.sqrt(2 / math.pi))
    np.tanh(inner, out=inner)
    inner += 1
    inner *= x
    inner *= x.dtype.type(0.5)
    return inner


def gelu(x: Array) -> Array:
    """Exact GELU, x times the normal distribution function."""
    return x.dtype.type(0.5) * x * (1 + erf(x * x.dtype.type(math.sqrt(0.5))))


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def erf(x: Array) -> Array:
    """The error function, which NumPy lacks.

    float32: the rational approximation of Eigen and XLA (`generic_fast_erf_float`), within 5e-7 of `math.erf`
    everywhere. Other types: `math.erf` itself, for tests that need every digit.
    """
    if x.dtype != np.float32:
        return np.vectorize(math.erf, otypes=[x.dtype])(x)
    x = np.clip(x, -4, 4)
    x2 = x * x
    return x * _polynomial(x2, _ERF_ABOVE) / _polynomial(x2, _ERF_BELOW)


ACTIVATION: Mapping[str, Callable[[Array], Array]] = {"gelu_new": gelu_new, "gelu": gelu, "relu": relu}
_ERF_ABOVE = (  # coefficients from the highest power down
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_BELOW = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def _polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    total = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        total *= x
        total += x.dtype.type(c)
    return total
