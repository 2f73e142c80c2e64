"""The information bottleneck against cases worked out by hand and closed forms."""

import jax
import numpy as np
import pytest
from reference import assert_close
from reference import theory as reference

from rl_jax import theory

RHO, CELLS = 0.8, 32
BETAS = np.array([1 / 0.9, 1 / 0.7, 1.8, 2.0, 2.5, 1 / 0.3, 5.0, 8.0])


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def as_numpy(solution):
    return jax.tree.map(np.asarray, solution)


@pytest.fixture(scope="module")
def grid():
    return reference.gaussian_table(RHO, cells=CELLS)


@pytest.fixture(scope="module")
def curve(grid):
    with jax.enable_x64(True):
        return as_numpy(theory.discrete_curve(grid, betas=BETAS))


def random_joint(seed, x, y):
    return np.random.default_rng(seed).dirichlet(np.full(x * y, 0.4)).reshape(x, y)


def test_one_iteration_equals_reference():
    joint = random_joint(0, 5, 4)
    start = np.random.default_rng(1).dirichlet(np.ones(3), size=5)
    for beta in (0.7, 3.0, 12.0):
        actual = theory.discrete_bottleneck(joint, beta=beta, iterations=1, start=start)
        encoder = reference.bottleneck_step(joint, start, beta)
        assert_close(actual.encoder, encoder, tolerance=1e-12)
        assert_close(actual.residual, np.abs(encoder - start).max(), tolerance=1e-12)
        rate, relevance = reference.bottleneck_information(joint, encoder)
        assert_close(actual.rate, rate, tolerance=1e-10)
        assert_close(actual.relevance, relevance, tolerance=1e-10)


def test_solution_is_self_consistent_and_no_small_change_is_better():
    joint = random_joint(2, 6, 5)
    beta = 6.0
    solution = as_numpy(theory.discrete_bottleneck(joint, beta=beta))
    assert solution.residual < 1e-12
    again = reference.bottleneck_step(joint, solution.encoder, beta)
    assert_close(solution.encoder, again, tolerance=1e-10)

    def objective(encoder):
        rate, relevance = reference.bottleneck_information(joint, encoder)
        return rate - beta * relevance

    best = objective(solution.encoder)
    rng = np.random.default_rng(3)
    for size in (1e-3, 1e-2, 0.1, 0.5):
        for _ in range(20):
            other = rng.dirichlet(np.ones(6), size=6)
            mixed = (1 - size) * solution.encoder + size * other
            assert objective(mixed) >= best - 1e-12


def test_each_iteration_lowers_the_objective():
    joint, beta = random_joint(4, 6, 5), 4.0
    values = []
    for iterations in (1, 2, 3, 5, 10, 30, 100, 1000):
        s = theory.discrete_bottleneck(joint, beta=beta, iterations=iterations)
        values.append(float(s.rate - beta * s.relevance))
    assert np.all(np.diff(values) <= 1e-12)
    assert values[0] - values[-1] > 1e-2


def test_deterministic_relation():
    # Y = X // 2 of four equal X: T = Y for beta > 1, nothing for beta < 1.
    joint = np.repeat(np.eye(2), 2, axis=0)
    above = theory.discrete_bottleneck(joint, beta=1.5)
    assert_close(above.rate, np.log(2), tolerance=1e-8)
    assert_close(above.relevance, np.log(2), tolerance=1e-8)
    encoder = np.asarray(above.encoder)
    assert_close(encoder[0], encoder[1], tolerance=1e-8)
    assert_close(encoder[2], encoder[3], tolerance=1e-8)
    assert np.sum(np.minimum(encoder[0], encoder[2])) < 1e-8
    below = theory.discrete_bottleneck(joint, beta=0.9)
    assert float(below.rate) < 1e-10
    assert float(below.relevance) < 1e-10


def test_symmetric_channel():
    # Y = X but for a flip of probability d: the best T is X but for a flip of
    # probability a, with slope (1 - 2d) log((1-b)/b) / log((1-a)/a) = 1/beta at
    # b = a (1-d) + d (1-a) (Witsenhausen & Wyner 1975); nothing up to (1 - 2d)^-2.
    d = 0.1
    joint = np.array([[1 - d, d], [d, 1 - d]]) / 2
    for a in (0.02, 0.1, 0.25, 0.4):
        b = a * (1 - d) + d * (1 - a)
        slope = (1 - 2 * d) * np.log((1 - b) / b) / np.log((1 - a) / a)
        solution = as_numpy(theory.discrete_bottleneck(joint, beta=1 / slope))
        rate = np.log(2) - reference.entropy(a)
        assert_close(solution.rate, rate, tolerance=1e-6)
        relevance = np.log(2) - reference.entropy(b)
        assert_close(solution.relevance, relevance, tolerance=1e-6)
    critical = (1 - 2 * d) ** -2
    below = theory.discrete_bottleneck(joint, beta=critical - 0.05)
    assert float(below.rate) < 1e-10
    above = theory.discrete_bottleneck(joint, beta=critical + 0.05)
    assert float(above.rate) > 0.01


def test_large_beta_gives_the_minimal_sufficient_statistic():
    # Rows 0 and 3, and rows 1 and 4, say the same of Y: they are merged, no others.
    rows = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    p_x = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
    joint = p_x[:, None] * rows[[0, 1, 2, 0, 1]]
    solution = as_numpy(theory.discrete_bottleneck(joint, beta=300.0))
    merged = np.array([0.35, 0.35, 0.3])
    assert_close(solution.rate, -np.sum(merged * np.log(merged)), tolerance=1e-6)
    information = reference.information(joint)
    assert_close(solution.relevance, information, tolerance=1e-6)
    assert_close(theory.mutual_information(joint), information, tolerance=1e-12)


def test_curve_is_concave_of_slope_one_over_beta():
    # Well above the first critical value and between others: the solution is smooth.
    joint = random_joint(5, 6, 6)
    betas = np.linspace(6.0, 6.2, 5)
    s = as_numpy(theory.discrete_curve(joint, betas=betas))
    slopes = np.diff(s.relevance) / np.diff(s.rate)
    assert_close(slopes, 1 / ((betas[1:] + betas[:-1]) / 2), tolerance=1e-4)


def test_gaussian_grid_is_concave_below_both_informations(grid, curve):
    assert np.all(np.diff(curve.rate) >= -1e-12)
    rate, relevance = curve.rate[2:], curve.relevance[2:]
    slopes = np.diff(relevance) / np.diff(rate)
    assert np.all(np.diff(slopes) < 0)
    # A chord of a concave curve has a slope between those of its ends.
    assert np.all(slopes < 1 / BETAS[2:-1] + 1e-6)
    assert np.all(slopes > 1 / BETAS[3:] - 1e-6)
    total = reference.information(grid)
    assert_close(theory.mutual_information(grid), total, tolerance=1e-10)
    assert np.all(curve.relevance <= np.minimum(curve.rate, total) + 1e-12)


def test_gaussian_grid_equals_the_closed_form(grid, curve):
    closed = np.asarray(theory.scalar_rate(BETAS, rho=RHO))
    for beta in (2.0, 1 / 0.3):
        i = int(np.flatnonzero(beta == BETAS)[0])
        assert abs(curve.rate[i] - closed[i]) < 2e-3
        along = float(theory.scalar_relevance(curve.rate[i], rho=RHO))
        assert abs(curve.relevance[i] - along) < 1e-3
    # Below the critical value 1/rho^2 nothing is worth its rate.
    assert np.all(BETAS[:2] < RHO**-2)
    assert np.all(curve.rate[:2] < 1e-8)
    assert np.all(closed[:2] == 0)
    assert abs(reference.information(grid) + 0.5 * np.log(1 - RHO**2)) < 1e-3


def test_a_uniform_start_is_never_left(grid):
    start = np.full((CELLS, CELLS), 1 / CELLS)
    stuck = as_numpy(theory.discrete_bottleneck(grid, beta=4.0, start=start))
    assert stuck.rate < 1e-10
    assert stuck.residual < 1e-12
    assert_close(stuck.encoder, start, tolerance=1e-10)
    rng = np.random.default_rng(0)
    nudged = start + 1e-3 * rng.random(start.shape)
    free = theory.discrete_bottleneck(grid, beta=4.0, start=nudged)
    assert abs(float(free.rate) - float(theory.scalar_rate(4.0, rho=RHO))) < 5e-3


def test_curve_equals_one_at_a_time(grid, curve):
    for i in (1, 3, 5):
        one = theory.discrete_bottleneck(grid, beta=BETAS[i])
        point = jax.tree.map(lambda leaf, i=i: leaf[i], curve)
        assert_close(one, point, tolerance=1e-8, floor=1.0)


def test_fewer_codes_and_rows_that_never_occur():
    joint = random_joint(6, 6, 4)
    joint[2] = 0.0
    joint /= joint.sum()
    s = as_numpy(theory.discrete_bottleneck(joint, beta=20.0, num_codes=2))
    assert s.encoder.shape == (6, 2)
    assert np.all(np.isfinite(s.encoder))
    assert s.rate <= np.log(2)
    rest = np.delete(joint, 2, axis=0)
    start = np.full((6, 2), 0.05) + 0.9 * np.eye(2)[np.arange(6) * 2 // 6]
    without = theory.discrete_bottleneck(
        rest, beta=20.0, start=np.delete(start, 2, axis=0)
    )
    assert_close(s.rate, without.rate, tolerance=1e-8)
    assert_close(s.relevance, without.relevance, tolerance=1e-8)
    # Weights need no normalisation.
    counted = theory.discrete_bottleneck(37.0 * joint, beta=20.0, num_codes=2)
    assert_close(s.relevance, counted.relevance, tolerance=1e-10)
    # A code that the start never uses stays unused.
    unused = np.concatenate([start, np.zeros((6, 1))], axis=1)
    three = as_numpy(theory.discrete_bottleneck(joint, beta=20.0, start=unused))
    assert_close(three.encoder[:, :2], s.encoder, tolerance=1e-8)
    assert np.all(three.encoder[:, 2] == 0)


def test_float32_is_close(grid, curve):
    with jax.enable_x64(False):
        s = as_numpy(theory.discrete_curve(grid, betas=BETAS))
        assert s.rate.dtype == np.float32
    assert_close(s.rate, curve.rate, tolerance=2e-5, floor=1.0)
    assert_close(s.relevance, curve.relevance, tolerance=2e-5, floor=1.0)


def test_scalar_curve():
    rate = np.linspace(0, 8, 200)
    curve = np.asarray(theory.scalar_relevance(rate, rho=RHO))
    assert curve[0] == 0
    slope = jax.vmap(jax.grad(lambda r: theory.scalar_relevance(r, rho=RHO)))(rate)
    assert_close(slope[0], RHO**2, tolerance=1e-12)
    assert np.all(np.diff(slope) < 0)
    assert slope[-1] < 1e-5
    assert_close(curve[-1], -0.5 * np.log(1 - RHO**2), tolerance=1e-5)
    assert np.all(curve <= rate)
    # The slope at the rate that beta asks for is 1/beta.
    betas = np.array([1.6, 2.0, 5.0, 40.0])
    at = theory.scalar_rate(betas, rho=RHO)
    slope = jax.vmap(jax.grad(lambda r: theory.scalar_relevance(r, rho=RHO)))(at)
    assert_close(slope, 1 / betas, tolerance=1e-10)
    small = theory.scalar_relevance(1e-14, rho=RHO)
    assert_close(small, RHO**2 * 1e-14, tolerance=1e-6)


def test_scalar_curve_equals_monte_carlo():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400_000)
    y = RHO * x + np.sqrt(1 - RHO**2) * rng.normal(size=x.size)
    for noise in (0.3, 1.0, 3.0):
        t = x + noise * rng.normal(size=x.size)
        rate = 0.5 * np.log(1 + noise**-2)
        # Cells of equal counts: they lose a little information, .008 at most here.
        table, *_ = np.histogram2d(
            *(np.argsort(np.argsort(v)) * 40 // x.size for v in (t, y)), bins=40
        )
        binned = reference.information(table / x.size) - 39**2 / (2 * x.size)
        closed = float(theory.scalar_relevance(rate, rho=RHO))
        assert binned < closed
        assert closed - binned < 0.012
        assert abs(closed + 0.5 * np.log(1 - np.corrcoef(t, y)[0, 1] ** 2)) < 0.004


@pytest.mark.parametrize(("dim_x", "dim_y"), [(4, 3), (3, 5), (1, 1)])
def test_vector_form_equals_log_determinants(dim_x, dim_y):
    blocks = reference.covariances(np.random.default_rng(dim_x), dim_x, dim_y)
    eigenvalues = reference.bottleneck_eigenvalues(*blocks)
    for beta in (1.05, 2.0, 5.0, 1e3):
        s = as_numpy(theory.gaussian_bottleneck(*blocks, beta=beta))
        assert_close(s.eigenvalues, eigenvalues, tolerance=1e-10)
        rate, relevance = reference.noisy_projection(*blocks, s.projection)
        assert_close(s.rate, rate, tolerance=1e-9, floor=1e-3)
        assert_close(s.relevance, relevance, tolerance=1e-9, floor=1e-3)
        on = np.any(s.projection != 0, axis=1)
        np.testing.assert_array_equal(on, beta > s.critical)
        if beta == 1e3:
            assert np.sum(on) == min(dim_x, dim_y)
        along = theory.gaussian_curve(s.rate, eigenvalues=s.eigenvalues)
        assert_close(along, s.relevance, tolerance=1e-9, floor=1e-3)


def test_no_other_projection_is_better():
    blocks, beta = reference.covariances(np.random.default_rng(1), 4, 3), 3.0
    s = as_numpy(theory.gaussian_bottleneck(*blocks, beta=beta))
    best = float(s.rate - beta * s.relevance)
    assert best < -0.05
    rng = np.random.default_rng(2)
    for size in (0.01, 0.1, 1.0):
        for _ in range(30):
            other = s.projection + size * rng.normal(size=s.projection.shape)
            rate, relevance = reference.noisy_projection(*blocks, other)
            assert rate - beta * relevance > best
    # Also any mixing of T's noise-white coordinates is as good.
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    rate, relevance = reference.noisy_projection(*blocks, turn @ s.projection)
    assert_close(rate - beta * relevance, best, tolerance=1e-10)


def test_vector_of_one_is_the_scalar():
    rho = np.sqrt(0.5)
    for beta in (1.5, 2.5, 10.0):
        s = theory.gaussian_bottleneck([[4.0]], [[9.0]], [[6.0 * rho]], beta=beta)
        rate = theory.scalar_rate(beta, rho=rho)
        assert_close(s.rate, rate, tolerance=1e-10, floor=1.0)
        relevance = theory.scalar_relevance(rate, rho=rho)
        assert_close(s.relevance, relevance, tolerance=1e-10, floor=1.0)
        assert_close(s.critical, np.array([2.0]), tolerance=1e-10)
    rates = np.linspace(0, 3, 7)
    along = theory.gaussian_curve(rates, eigenvalues=[0.5])
    assert_close(along, theory.scalar_relevance(rates, rho=rho), tolerance=1e-10)


def test_vector_curve_is_the_best_sharing_of_the_rate():
    # Two coordinates of their own: the curve is the best split between two scalars.
    rhos = np.array([0.9, 0.6])
    rates = np.linspace(0, 3, 13)
    curve = np.asarray(theory.gaussian_curve(rates, eigenvalues=1 - rhos**2))
    assert np.all(np.diff(curve, 2) < 0)
    for rate, value in zip(rates, curve, strict=True):
        share = np.linspace(0, rate, 4001)
        first, second = (
            np.asarray(theory.scalar_relevance(r, rho=rho))
            for r, rho in ((share, rhos[0]), (rate - share, rhos[1]))
        )
        assert_close(value, np.max(first + second), tolerance=1e-6, floor=1e-3)
    # Slope 1 - lambda_1 at 0, and a direction that tells nothing changes nothing.
    slope = jax.grad(lambda r: theory.gaussian_curve(r, eigenvalues=1 - rhos**2))
    assert_close(slope(0.0), 0.81, tolerance=1e-10)
    idle = theory.gaussian_curve(rates, eigenvalues=np.append(1 - rhos**2, 1.0))
    assert_close(idle, curve, tolerance=1e-12)


def test_canonical_directions():
    blocks = reference.covariances(np.random.default_rng(5), 4, 3)
    sigma_x, sigma_y, sigma_xy = blocks
    correlations, directions = map(np.asarray, theory.canonical_correlations(*blocks))
    assert_close(directions @ sigma_x @ directions.T, np.eye(4), tolerance=1e-10)
    explained = directions @ sigma_xy @ np.linalg.inv(sigma_y) @ sigma_xy.T
    explained = explained @ directions.T
    assert_close(explained, np.diag(correlations**2), tolerance=1e-10)
    assert correlations[3] == 0
    information = -0.5 * np.sum(np.log1p(-(correlations**2)))
    assert_close(theory.gaussian_information(*blocks), information, tolerance=1e-10)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"beta": 0.0}, "beta"),
        ({"beta": np.inf}, "beta"),
        ({"joint": np.ones(3)}, "joint"),
        ({"joint": -np.ones((2, 2))}, "joint"),
        ({"joint": np.zeros((2, 2))}, "joint"),
        ({"joint": np.full((2, 2), np.nan)}, "joint"),
        ({"iterations": 0}, "iterations"),
        ({"num_codes": 0}, "num_codes"),
        ({"start": np.ones((3, 2))}, "start"),
        ({"start": np.ones((2, 3)), "num_codes": 2}, "start"),
        ({"start": np.array([[1.0, 0.0], [0.0, 0.0]])}, "start"),
    ],
)
def test_refused(change, word):
    arguments = {"joint": np.ones((2, 2)), "beta": 2.0} | change
    joint, beta = arguments.pop("joint"), arguments.pop("beta")
    for call in (
        lambda: theory.discrete_bottleneck(joint, beta=beta, **arguments),
        lambda: theory.discrete_curve(joint, betas=[beta], **arguments),
    ):
        with pytest.raises(ValueError, match=word) as error:
            call()
        assert "\n" not in str(error.value)


def test_gaussian_refused():
    eye = np.eye(2)
    with pytest.raises(ValueError, match="beta"):
        theory.gaussian_bottleneck(eye, eye, 0.1 * eye, beta=0.0)
    with pytest.raises(ValueError, match="gaussian_information: expected"):
        theory.gaussian_information(eye, np.eye(3), eye)
    with pytest.raises(ValueError, match="canonical_correlations: expected"):
        theory.canonical_correlations(eye, np.eye(3), np.ones((3, 2)))
    with pytest.raises(ValueError, match="eigenvalues"):
        theory.gaussian_curve(1.0, eigenvalues=eye)
    with pytest.raises(ValueError, match="betas"):
        theory.discrete_curve(np.ones((2, 2)), betas=2.0)
    for rho in (1.0, -1.5):
        with pytest.raises(ValueError, match="rho"):
            theory.scalar_relevance(1.0, rho=rho)
        with pytest.raises(ValueError, match="rho"):
            theory.scalar_rate(2.0, rho=rho)
