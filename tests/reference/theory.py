"""Closed forms and small solvers in NumPy float64, by other ways than the library's."""

import numpy as np
from scipy import integrate, stats


def information(joint):
    """I of a table of probabilities: sum p log p / (p_x p_y), entry by entry."""
    total = 0.0
    for i, row in enumerate(joint):
        for j, p in enumerate(row):
            if p > 0:
                total += p * np.log(p / (joint[i].sum() * joint[:, j].sum()))
    return total


def bottleneck_step(joint, encoder, beta):
    """One round of the self-consistent equations, term by term, without logarithms.

    Returns:
      p(t|x) afterwards.
    """
    p_x = joint.sum(1)
    size, codes = encoder.shape
    p_t = np.array([np.sum(p_x * encoder[:, t]) for t in range(codes)])
    new = np.zeros_like(encoder)
    for x in range(size):
        y_x = joint[x] / p_x[x]
        for t in range(codes):
            y_t = encoder[:, t] @ joint / p_t[t]
            divergence = sum(
                p * np.log(p / q) for p, q in zip(y_x, y_t, strict=True) if p > 0
            )
            new[x, t] = p_t[t] * np.exp(-beta * divergence)
        new[x] /= new[x].sum()
    return new


def bottleneck_information(joint, encoder):
    """I(X;T) and I(T;Y) of an encoder, from the tables p(x, t) and p(t, y)."""
    return information(joint.sum(1)[:, None] * encoder), information(encoder.T @ joint)


def entropy(p):
    """Of a coin, in nats."""
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def gaussian_table(rho, *, cells, edge=4.0):
    """Two correlated standard normals on a grid of equal cells, by their density."""
    edges = np.linspace(-edge, edge, cells + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    x, y = middle[:, None], middle[None, :]
    table = np.exp(-(x * x - 2 * rho * x * y + y * y) / (2 * (1 - rho**2)))
    return table / table.sum()


def log_det_information(sigma, first):
    """I of the first coordinates and the rest, of a covariance of both."""
    parts = sigma[:first, :first], sigma[first:, first:], sigma
    a, b, both = (np.linalg.slogdet(part)[1] for part in parts)
    return 0.5 * (a + b - both)


def noisy_projection(sigma_x, sigma_y, sigma_xy, projection):
    """I(X;T) and I(T;Y) of T = AX + noise of unit variance, by log-determinants."""
    keep = np.any(projection != 0, axis=1)
    a = projection[keep]
    if not len(a):
        return 0.0, 0.0
    signal = a @ sigma_x @ a.T
    t = signal + np.eye(len(a))
    rate = 0.5 * np.linalg.slogdet(t)[1]
    both = np.block([[t, a @ sigma_xy], [(a @ sigma_xy).T, sigma_y]])
    return rate, log_det_information(both, len(a))


def bottleneck_eigenvalues(sigma_x, sigma_y, sigma_xy):
    """Eigenvalues of Sigma_{x|y} Sigma_x^-1, ascending; the matrix is not symmetric."""
    given = sigma_x - sigma_xy @ np.linalg.inv(sigma_y) @ sigma_xy.T
    return np.sort(np.linalg.eigvals(given @ np.linalg.inv(sigma_x)).real)


def log_mean_exp_cosine(kappa, dim):
    """Log E exp(kappa cos), by quadrature over the angle, density sin^(d-2), d >= 2."""

    def weight(angle, kappa):
        return np.exp(kappa * (np.cos(angle) - 1)) * np.sin(angle) ** (dim - 2)

    above, below = (
        integrate.quad(weight, 0, np.pi, (k,), epsabs=0, epsrel=1e-11, limit=400)[0]
        for k in (kappa, 0.0)
    )
    return kappa + np.log(above / below)


def mixture_posterior(x, means, covariance, prior):
    """P(c | x) by Bayes' rule from the densities themselves."""
    inverse = np.linalg.inv(covariance)
    posterior = np.zeros((len(x), len(means)))
    for i, point in enumerate(x):
        for c, mean in enumerate(means):
            gap = point - mean
            posterior[i, c] = prior[c] * np.exp(-0.5 * gap @ inverse @ gap)
    return posterior / posterior.sum(1, keepdims=True)


def two_class_risk(means, covariance, *, cells=400, edge=9.0):
    """Half the mass under the lower of two normal densities in 1 or 2 dimensions."""
    spread = np.sqrt(np.diag(covariance))
    low = means.min(0) - edge * spread
    step = (means.max(0) + edge * spread - low) / cells
    axes = [a + s * (np.arange(cells) + 0.5) for a, s in zip(low, step, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    density = [stats.multivariate_normal(m, covariance).pdf(points) for m in means]
    return 0.5 * np.minimum(*density).sum() * np.prod(step)


def sphere(rng, count, dim):
    """Uniform unit vectors."""
    z = rng.normal(size=(count, dim))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def covariances(rng, dim_x, dim_y):
    """Blocks Sigma_x, Sigma_y, Sigma_xy of a random positive definite covariance."""
    root = rng.normal(size=(dim_x + dim_y, dim_x + dim_y + 2))
    sigma = root @ root.T / root.shape[1]
    return sigma[:dim_x, :dim_x], sigma[dim_x:, dim_x:], sigma[:dim_x, dim_x:]


def log_density_ratio(x, y, rho):
    """Log p(x, y) / p(x)p(y) of standard normal pairs [P], from their covariances."""
    total = 0.0
    for a, b, r in zip(x, y, rho, strict=True):
        z, sigma = np.array([a, b]), np.array([[1.0, r], [r, 1.0]])
        joint = -0.5 * z @ np.linalg.inv(sigma) @ z
        joint -= 0.5 * np.log(np.linalg.det(sigma))
        total += joint + 0.5 * (a**2 + b**2)
    return total


def gaussian_pair_nce(rho, *, order=60):
    """The InfoNCE bound of one pair and two candidates, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(order)
    weights = weights / weights.sum()
    x, noise, other = np.meshgrid(nodes, nodes, nodes, indexing="ij")
    mass = np.einsum("i,j,k->ijk", weights, weights, weights)
    own = rho * x + np.sqrt(1 - rho**2) * noise

    def ratio(y):
        square = rho**2 * (x**2 + y**2) - 2 * rho * x * y
        return -0.5 * np.log(1 - rho**2) - 0.5 * square / (1 - rho**2)

    own, other = ratio(own), ratio(other)
    return np.sum(mass * (own - np.logaddexp(own, other) + np.log(2)))


def cell_entropy(h, bins, low, high):
    """Entropy of the cells that rows fall in, in nats, from a dictionary of counts."""
    counts = {}
    for row in h:
        cell = tuple(
            min(max(int(np.floor((v - low) / (high - low) * bins)), 0), bins - 1)
            for v in row
        )
        counts[cell] = counts.get(cell, 0) + 1
    shares = np.array(list(counts.values())) / len(h)
    return -np.sum(shares * np.log(shares))


def mixture_overlap(h, variance, times):
    """-mean_i log mean_j exp(-|h_i - h_j|^2 / (times variance)), pair by pair."""
    total = 0.0
    for a in h:
        distance = np.array([np.sum((a - b) ** 2) for b in h])
        total -= np.log(np.mean(np.exp(-distance / (times * variance))))
    return total / len(h)


def noisy_information(h, variance):
    """I(X;T) of scalars h and Gaussian noise: entropy of the mixture by quadrature."""
    spread = np.sqrt(variance)
    grid = np.linspace(h.min() - 9 * spread, h.max() + 9 * spread, 20001)
    gaps = (grid[:, None] - h[None]) / spread
    density = np.exp(-0.5 * gaps**2).mean(1) / np.sqrt(2 * np.pi * variance)
    safe = np.where(density > 0, density, 1.0)
    entropy = -np.trapezoid(density * np.log(safe), grid)
    return entropy - 0.5 * np.log(2 * np.pi * np.e * variance)
