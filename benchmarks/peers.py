"""The judges that the benchmark compares with, the bounds that no judge can beat, and the runs they judge.

Everything is vectorised over runs. A tick is one minute. A judge returns, for each run, the tick (from 1) at
which it first says "roll back", or 0 if it never does. How the judges behave was read from their own sources;
each is given the benefit of the doubt wherever its source leaves a choice, and the code here is our own.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

_SECONDS = 60.0
"""How long a tick is."""
_FEWEST_POINTS = 3
"""With one point a side every shifted sample is tied, and Kayenta's interval is an error, not a verdict."""
_TOLERANCE = 0.25
"""Kayenta ignores a shift whose lower bound is under this share of the estimated shift."""


@dataclass(frozen=True)
class ErrorRuns:
    """Failed requests and all requests of both revisions, each of shape (ticks, runs)."""

    stable_bad: Counts
    stable_total: Counts
    candidate_bad: Counts
    candidate_total: Counts


@dataclass(frozen=True)
class LatencyRuns:
    """Latency histograms of both revisions, each of shape (ticks, runs, buckets).

    `bounds` are the rising edges between buckets in milliseconds, one fewer than there are buckets: the first
    bucket lies below the first edge, the last one is open.
    """

    bounds: Floats
    stable: Counts
    candidate: Counts


def draw_errors(
    rng: np.random.Generator,
    runs: int,
    ticks: int,
    rps: float,
    share: float,
    p_stable: float,
    p_candidate: float,
) -> ErrorRuns:
    """Return runs in which requests arrive at random and fail independently.

    `rps` are the requests per second of both revisions together; the candidate gets `share` (0 to 1) of them.
    Arrivals per minute are Poisson, failures binomial.
    """
    stable_total = rng.poisson(_SECONDS * rps * (1 - share), (ticks, runs))
    candidate_total = rng.poisson(_SECONDS * rps * share, (ticks, runs))
    return ErrorRuns(
        stable_bad=rng.binomial(stable_total, p_stable),
        stable_total=stable_total,
        candidate_bad=rng.binomial(candidate_total, p_candidate),
        candidate_total=candidate_total,
    )


def draw_latencies(
    rng: np.random.Generator,
    runs: int,
    ticks: int,
    rps: float,
    share: float,
    stable_probabilities: Floats,
    candidate_probabilities: Floats,
    bounds: Floats,
) -> LatencyRuns:
    """Return runs in which requests arrive at random and take independent times.

    `rps` are the requests per second of both revisions together; the candidate gets `share` (0 to 1) of them.
    The probabilities are those of the buckets, shape (buckets,). Each bucket is drawn from its own Poisson
    distribution, which is the same as Poisson arrivals that a multinomial spreads over the buckets.
    """
    shape = (ticks, runs, len(bounds) + 1)
    return LatencyRuns(
        bounds=bounds,
        stable=rng.poisson(_SECONDS * rps * (1 - share) * stable_probabilities, shape),
        candidate=rng.poisson(_SECONDS * rps * share * candidate_probabilities, shape),
    )


def lognormal_buckets(
    bounds: Floats,
    median_ms: float,
    sigma: float,
    tail_share: float = 0.0,
    tail_factor: float = 1.0,
) -> Floats:
    """Return the probabilities of the buckets for lognormal latencies, shape (bounds + 1,).

    `bounds` and `median_ms` are milliseconds, `sigma` is the standard deviation of the natural logarithm.
    `tail_share` (0 to 1) of the requests take `tail_factor` times as long.
    """
    body = _lognormal_below(bounds, median_ms, sigma)
    tail = _lognormal_below(bounds, median_ms * tail_factor, sigma)
    below = (1 - tail_share) * body + tail_share * tail
    return np.diff(below, prepend=0.0, append=1.0)


def _lognormal_below(bounds: Floats, median_ms: float, sigma: float) -> Floats:
    """Return the probability of a latency below each edge."""
    normal = NormalDist(math.log(median_ms), sigma)
    return np.array([normal.cdf(math.log(bound)) for bound in bounds.tolist()])


def percentiles(counts: Counts, bounds: Floats, share: float) -> Floats:
    """Return the latencies in milliseconds that `share` (above 0, up to 1) of the requests stay below.

    `counts` have the buckets on their last axis, the result has the other axes. Interpolated within the
    bucket; the open bucket at the end counts as its edge. NaN without requests.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a percentile is a share of the requests, above 0 and up to 1, not {share}")
    reached = counts.cumsum(axis=-1)
    total = reached[..., -1]
    rank = share * total
    bucket = (reached >= rank[..., np.newaxis]).argmax(axis=-1)[..., np.newaxis]
    inside = np.take_along_axis(counts, bucket, axis=-1)[..., 0]
    beyond = np.take_along_axis(reached, bucket, axis=-1)[..., 0] - rank
    edges = np.concatenate([[0.0], bounds, bounds[-1:]])
    low, high = edges[bucket[..., 0]], edges[bucket[..., 0] + 1]
    part = 1 - beyond / np.maximum(inside, 1)
    return np.where(total > 0, low + part * (high - low), np.nan)


def kayenta_errors(data: ErrorRuns, every: int, *, confidence: float = 0.98) -> Counts:
    """Return when Kayenta's judge calls the candidate's error fraction High, shape (runs,).

    One point a minute and side, the failed share of its requests; a minute without requests gives none. The
    judge looks at all minutes so far, every `every` minutes.

    After spinnaker/kayenta, its Mann-Whitney classifier with the default tolerance, effect size and
    confidence, for a metric that may not increase. Its solver finds the ends of the interval up to a fixed
    tolerance, which is coarse for small error fractions; here they are exact.
    """
    stable = _fraction(data.stable_bad, data.stable_total)
    candidate = _fraction(data.candidate_bad, data.candidate_total)
    return _first_high(stable, candidate, every, confidence)


def kayenta_latency(data: LatencyRuns, every: int, percentile: float, *, confidence: float = 0.98) -> Counts:
    """Return when Kayenta's judge calls a percentile of the candidate's latency High, shape (runs,).

    One point a minute and side, the percentile of that minute in milliseconds; `percentile` is a share, such
    as 0.5 or 0.95. A minute without requests gives no point. Otherwise as for error fractions.
    """
    stable = percentiles(data.stable, data.bounds, percentile)
    candidate = percentiles(data.candidate, data.bounds, percentile)
    return _first_high(stable, candidate, every, confidence)


def _first_high(stable: Floats, candidate: Floats, every: int, confidence: float) -> Counts:
    """Return the first look at which the candidate's points are High; points are (ticks, runs), NaN for none.

    A lower bound above zero is the same as few enough pairs in which the candidate is not above stable, and
    those pairs are quickly counted for all looks at once. Only where they are few enough the rest is needed.
    """
    rank = _lower_rank(stable, candidate, confidence)
    promising = _pairs_not_above(stable, candidate) < rank
    first = np.zeros(stable.shape[1], dtype=np.int64)
    for tick in range(every, len(stable) + 1, every):
        runs = np.flatnonzero((first == 0) & promising[tick - 1])
        high = _is_high(stable[:tick, runs], candidate[:tick, runs], rank[tick - 1, runs])
        first[runs[high]] = tick
    return first


def _is_high(stable: Floats, candidate: Floats, rank: Counts) -> Flags:
    """Return for which runs the shift is High, given the rank of its lower bound among the differences."""
    lower, estimate = _shift(stable, candidate, rank)
    # The effect size is the ratio of the means, or 1 if stable's is 0; this asks whether it is at least 1.
    effect: Flags = np.nanmean(candidate, axis=0) >= np.nanmean(stable, axis=0)
    return (lower > _TOLERANCE * np.abs(estimate)) & effect


def _shift(stable: Floats, candidate: Floats, rank: Counts) -> tuple[Floats, Floats]:
    """Return the lower bound of the shift, candidate less stable, and its Hodges-Lehmann estimate."""
    ticks, runs = stable.shape
    differences = candidate.T[:, :, np.newaxis] - stable.T[:, np.newaxis, :]
    ordered = np.sort(differences.reshape(runs, ticks * ticks), axis=1)  # what is missing, NaN, comes last
    pairs = np.count_nonzero(~np.isnan(ordered), axis=1)
    places = np.stack([rank - 1, (pairs - 1) // 2, pairs // 2], axis=1)
    lower, below, above = np.take_along_axis(ordered, places, axis=1).T
    return lower, (below + above) / 2


def _lower_rank(stable: Floats, candidate: Floats, confidence: float) -> Counts:
    """Return which of the sorted differences is the lower bound of the shift, from 1; 0 where there is none.

    For the points up to each tick, shape (ticks, runs). This inverts the rank test as R's `wilcox.test` does
    with `exact = FALSE, correct = TRUE`: normal approximation, corrected for continuity and for ties within a
    side. With few points no difference is extreme enough, and the bound is the lowest one.
    """
    before = np.cumsum(~np.isnan(stable), axis=0)
    after = np.cumsum(~np.isnan(candidate), axis=0)
    pairs, points = before * after, before + after
    tied = (_tied(stable) + _tied(candidate)) / np.maximum(points * (points - 1), 1)
    deviation = np.sqrt(pairs / 12 * (points + 1 - tied))
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    rank = np.ceil(pairs / 2 - 0.5 - quantile * deviation).astype(np.int64)
    return np.where((pairs > 0) & (points >= _FEWEST_POINTS), np.maximum(rank, 1), 0)


def _tied(points: Floats) -> Counts:
    """Return the sum of n^3 - n over groups of n equal points up to each tick, shape (ticks, runs)."""
    gained = np.zeros(points.shape, dtype=np.int64)
    for tick, newest in enumerate(points):
        same = np.count_nonzero(points[:tick] == newest, axis=0)
        gained[tick] = 3 * same * (same + 1)  # what one more point adds to (n^3 - n) of a group of `same`
    return np.cumsum(gained, axis=0)


def _pairs_not_above(stable: Floats, candidate: Floats) -> Counts:
    """Return the pairs of points up to each tick whose candidate is not above its stable, (ticks, runs)."""
    gained = np.zeros(stable.shape, dtype=np.int64)
    for tick in range(len(stable)):
        gained[tick] = np.count_nonzero(candidate[tick] <= stable[: tick + 1], axis=0)
        gained[tick] += np.count_nonzero(candidate[:tick] <= stable[tick], axis=0)
    return np.cumsum(gained, axis=0)


def flagger_errors(
    data: ErrorRuns, limit: float = 0.01, failures: int = 5, *, empty_fails: bool = True
) -> Counts:
    """Return when Flagger has seen `failures` minutes with too many failed requests, shape (runs,).

    A minute fails when more than `limit` (0 to 1) of the candidate's requests did, and, with `empty_fails`,
    when there were none. The counter is never reset. After fluxcd/flagger, its scheduler and metric checks.
    """
    rate = _fraction(data.candidate_bad, data.candidate_total)
    return _failed_often(rate, limit, failures, empty_fails=empty_fails)


def flagger_latency(
    data: LatencyRuns, limit_ms: float = 500.0, failures: int = 5, *, empty_fails: bool = True
) -> Counts:
    """Return when Flagger has seen `failures` slow minutes of the candidate, shape (runs,).

    A minute fails when its p99 is above `limit_ms` milliseconds. Otherwise as for failed requests.
    """
    slowest = percentiles(data.candidate, data.bounds, 0.99)
    return _failed_often(slowest, limit_ms, failures, empty_fails=empty_fails)


def _failed_often(values: Floats, limit: float, failures: int, *, empty_fails: bool) -> Counts:
    """Return the tick at which there are too many failures; values are (ticks, runs), NaN for no data."""
    failed = values > limit
    if empty_fails:
        failed |= np.isnan(values)
    return _first(np.cumsum(failed, axis=0) >= failures)


def release_manager_errors(data: ErrorRuns, limit: float = 0.01, window: int = 30) -> Counts:
    """Return when the Cloud Run Release Manager sees too many failed requests, shape (runs,).

    It looks every minute at the candidate's requests of the last `window` minutes together, and rolls back as
    soon as more than `limit` (0 to 1) of them failed. No requests read as healthy. After
    GoogleCloudPlatform/cloud-run-release-manager, its health checks.
    """
    bad, total = _last(data.candidate_bad, window), _last(data.candidate_total, window)
    return _first(_fraction(bad, total) > limit)


def release_manager_latency(data: LatencyRuns, limit_ms: float = 500.0, window: int = 30) -> Counts:
    """Return when the Cloud Run Release Manager sees a p99 above `limit_ms` milliseconds, shape (runs,).

    The p99 is that of all the candidate's requests of the last `window` minutes. Otherwise as for failed
    requests.
    """
    return _first(percentiles(_last(data.candidate, window), data.bounds, 0.99) > limit_ms)


def sprt_errors(data: ErrorRuns, p_stable: float, p_candidate: float, alpha: float = 0.01) -> Counts:
    """Return when a test that knows both error rates is sure, shape (runs,).

    Wald's sequential probability ratio test on the candidate's requests: its rate against stable's, until
    their likelihood ratio reaches 1/alpha. An oracle: no judge knows the rates. Never, if the candidate is
    not worse.
    """
    if p_candidate <= p_stable:
        return np.zeros(data.candidate_bad.shape[1], dtype=np.int64)
    bad = np.cumsum(data.candidate_bad, axis=0)
    good = np.cumsum(data.candidate_total, axis=0) - bad
    evidence = _weighed(bad, p_candidate, p_stable) + _weighed(good, 1 - p_candidate, 1 - p_stable)
    return _first(evidence >= math.log(1 / alpha))


def _weighed(counts: Counts, p_candidate: float, p_stable: float) -> Floats:
    """Return the log likelihood ratio of so many events that have these probabilities."""
    if p_stable == 0:
        return np.where(counts > 0, np.inf, 0.0)
    if p_candidate == 0:
        return np.where(counts > 0, -np.inf, 0.0)
    return np.multiply(counts, math.log(p_candidate / p_stable), dtype=np.float64)


def two_sample_bound(p_stable: float, p_candidate: float, share: float, alpha: float = 0.01) -> float:
    """Return the candidate's requests that a test needs which knows neither error rate.

    The growth-rate optimum of any test of equal rates at error probability `alpha`, when the candidate gets
    `share` (0 to 1) of the requests: log(1/alpha) over the divergence of both sides from their mixture. After
    Turner, Ly and Gruenwald. Infinite if the rates are equal.
    """
    return two_sample_bound_buckets(_outcomes(p_stable), _outcomes(p_candidate), share, alpha)


def two_sample_bound_buckets(
    stable_probabilities: Floats, candidate_probabilities: Floats, share: float, alpha: float = 0.01
) -> float:
    """Return the candidate's requests that a test needs which knows neither distribution of latencies.

    The probabilities are those of the buckets, shape (buckets,). Otherwise as for error rates.
    """
    if np.array_equal(stable_probabilities, candidate_probabilities):
        return math.inf
    mixture = share * candidate_probabilities + (1 - share) * stable_probabilities
    growth = _divergence(candidate_probabilities, mixture)
    growth += (1 - share) / share * _divergence(stable_probabilities, mixture)
    return _requests(growth, alpha)


def sprt_bound(p_stable: float, p_candidate: float, alpha: float = 0.01) -> float:
    """Return the candidate's requests that a test needs which knows both error rates.

    Wald's bound, log(1/alpha) over the divergence of the candidate from stable; out of reach of any judge.
    Infinite if the rates are equal.
    """
    return _requests(_divergence(_outcomes(p_candidate), _outcomes(p_stable)), alpha)


def _requests(growth: float, alpha: float) -> float:
    """Return how many requests reach 1/alpha when each adds so much to the log evidence on average."""
    return math.log(1 / alpha) / growth if growth > 0 else math.inf


def _outcomes(p_bad: float) -> Floats:
    """Return the probabilities of a failed and of a good request."""
    return np.array([p_bad, 1 - p_bad])


def _divergence(actual: Floats, assumed: Floats) -> float:
    """Return the Kullback-Leibler divergence in nats; infinite if what happens was assumed impossible."""
    possible = actual > 0
    if np.any(assumed[possible] == 0):
        return math.inf
    return float(np.sum(actual[possible] * np.log(actual[possible] / assumed[possible])))


def _fraction(bad: Counts, total: Counts) -> Floats:
    """Return the share of failed requests, NaN without requests."""
    return np.where(total > 0, bad / np.maximum(total, 1), np.nan)


def _last(counts: Counts, window: int) -> Counts:
    """Return the sums of the counts of the last `window` ticks, at each tick; ticks are the first axis."""
    sums = np.cumsum(counts, axis=0)
    sums[window:] -= sums[:-window].copy()
    return sums


def _first(reached: Flags) -> Counts:
    """Return the first tick, from 1, at which something is so, or 0; flags are (ticks, runs)."""
    return np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, 0)
