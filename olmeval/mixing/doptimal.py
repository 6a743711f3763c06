"""D-optimal swarms: the candidates from which a log-linear law is learned best."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LAWS = 8
LAW_SPREAD = 2.0


def d_optimal(
    X: Array, runs: int, existing: Array | None, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Places of ``runs`` candidates (N, m) that together make the information matrix large.

    What a run tells of c + exp(t . x) depends on t, which is not known before: the mean log
    determinant over laws drawn from a normal prior is maximised (a Bayesian D-optimal design:
    Chaloner and Verdinelli 1995, section 2), greedily, each step adding the candidate that raises
    it most (Wynn 1970), with rank-one updates of the inverses.
    """
    m = X.shape[1]
    t = rng.normal(0, LAW_SPREAD, (LAWS, m))
    t -= t.mean(axis=1, keepdims=True)
    features = _features(X, t)  # (laws, N, m + 1)
    # Next to nothing is known at the start; it must not be nothing, or no inverse exists.
    inverse = np.broadcast_to(np.eye(m + 1) * 1e4, (LAWS, m + 1, m + 1)).copy()
    for row in _features(existing, t).transpose(1, 0, 2) if existing is not None else ():
        inverse = _update(inverse, row)
    left = np.ones(len(X), np.bool_)
    chosen = []
    # Of every candidate f' inverse f, kept up to date: one product a step.
    leverage = np.einsum("lnp,lpq,lnq->ln", features, inverse, features)
    for _ in range(runs):
        gain = np.where(left, np.log1p(leverage).mean(axis=0), -np.inf)
        best = int(gain.argmax())
        chosen.append(best)
        left[best] = False
        row = features[:, best]
        direction = (inverse @ row[:, :, None])[:, :, 0]  # (laws, p)
        scale = 1 + (row * direction).sum(axis=1)
        along = (features @ direction[:, :, None])[:, :, 0]
        leverage = np.maximum(leverage - along**2 / scale[:, None], 0)
        inverse -= direction[:, :, None] * direction[:, None, :] / scale[:, None, None]
    return np.array(chosen, np.int64)


def _features(X: Array, t: Array) -> Array:
    """Derivatives of c + exp(t . x) by c and t, (laws, N, m + 1)."""
    e = np.exp(t @ X.T)[:, :, None]
    return np.concatenate([np.ones_like(e), e * X], axis=2)


def _update(inverse: Array, row: Array) -> Array:
    direction = (inverse @ row[:, :, None])[:, :, 0]
    scale = 1 + (row * direction).sum(axis=1)
    updated: Array = inverse - direction[:, :, None] * direction[:, None] / scale[:, None, None]
    return updated
