"""What is no array or number is refused in one line by every public function."""

import inspect

import jax
import numpy as np
import pytest

from rl_jax import evaluate, losses, pairwise, theory
from rl_jax.errors import UsageError, checked

OTHERWISE = {
    "cka_map": "lists of arrays",
    "gamma": "families, of which nothing is required",
    "gaussian": "the same",
    "gaussian_mean": "the same",
    "jackknife": "any number of arrays",
    "settle": "a function",
}
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (losses, pairwise, evaluate, theory)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name)) and name not in OTHERWISE
}
A = np.ones((4, 3), np.float32)


class Tensor:
    """Of another library: it has a shape and becomes an array, and is none."""

    shape = A.shape

    def __array__(self, dtype=None, copy=None):
        return A


@pytest.mark.parametrize("value", [None, "abc", 1j, {}], ids=str)
@pytest.mark.parametrize("name", PUBLIC)
def test_no_array_and_no_number(name, value):
    parameters = inspect.signature(PUBLIC[name]).parameters.values()
    given = {p.name: value for p in parameters if p.default is p.empty}
    short = name.split(".")[-1]
    with pytest.raises(UsageError, match=rf"^{short}: \w+ must be a.*, got ") as error:
        PUBLIC[name](**given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (
            losses.sigmoid,
            {"image": A, "text": A, "logit_scale": 1.0, "bias": None},
            "sigmoid: bias must be an array or a number, got None",
        ),
        (
            losses.nt_xent,
            {"a": A.tolist(), "b": A, "temperature": 0.1},
            "nt_xent: a must be an array, got list; use numpy.asarray",
        ),
        (
            losses.nt_xent,
            {"a": Tensor(), "b": Tensor(), "temperature": 0.1},
            "nt_xent: a must be an array, got Tensor; use numpy.asarray",
        ),
        (
            losses.normalize,
            {"x": A.astype(object)},
            r"normalize: x must be an array, got object of shape \(4, 3\)",
        ),
        (
            pairwise.top_k,
            {"query": A, "bank": A, "k": 2, "valid": np.ones(2)},
            r"valid must be .*, got one of shape \(2,\), which does not fit",
        ),
        (
            losses.squared_error,
            {"predicted": A, "target": A[:2]},
            r"of one shape, got \(4, 3\), \(2, 3\)",
        ),
        (
            losses.weighted_cross_entropy,
            {"logits": A, "label": np.zeros(4, np.int32), "weight": np.ones(3)},
            r"weight \[...\], got \(4, 3\), \(4,\), \(3,\)",
        ),
        (theory.bayes_risk, {"log_posterior": A[0]}, r"must be \[n, C\], got \(3,\)"),
        (theory.mutual_information, {"joint": A[:0]}, r"not empty, got \(0, 3\)"),
        (theory.fista, {"x": A, "atoms": A[:0], "penalty": 1.0}, "m >= 1, got"),
        (
            theory.log_density_ratio,
            {"x": A, "y": A[:0], "rho": 0.5},
            r"\[..., P\] .*, got \(4, 3\), \(0, 3\)",
        ),
    ],
)
def test_what_is_said(function, given, message):
    with pytest.raises(UsageError, match=message):
        function(**given)


def test_what_does_as_well_is_taken():
    """A list where the function makes an array of it; anything that is traced."""
    found = theory.mutual_information([[0.25, 0.25], [0.25, 0.25]])
    np.testing.assert_allclose(found, 0.0, atol=1e-7)
    assert (
        jax.eval_shape(losses.l1, jax.ShapeDtypeStruct((4, 3), "float32")).shape == ()
    )


def test_other_errors_stay_what_they_are():
    @checked
    def broken(x: np.ndarray):
        raise KeyError(x.shape)

    with pytest.raises(KeyError):
        broken(A)
    with pytest.raises(TypeError, match="unexpected keyword"):
        losses.l1(A, y=A)
