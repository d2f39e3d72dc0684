"""Exact random draws from Poisson, binomial and multinomial distributions, fast for large counts.

Large draws are halved by order statistics until they are small: J. H. Ahrens and U. Dieter, "Computer
methods for sampling from gamma, beta, Poisson and binomial distributions", Computing 12 (1974).
"""

import math
import random
from bisect import bisect_right
from collections.abc import Iterable

_SMALL = 24


def poisson(rng: random.Random, mean: float) -> int:
    """Return a Poisson draw; the mean is 0 or more."""
    drawn = 0
    while mean > _SMALL:
        arrivals = int(mean * 7 / 8)
        time = rng.gammavariate(arrivals, 1.0)
        if time > mean:
            return drawn + binomial(rng, arrivals - 1, mean / time)
        drawn += arrivals
        mean -= time
    limit, product = math.exp(-mean), rng.random()
    while product > limit:
        drawn += 1
        product *= rng.random()
    return drawn


def binomial(rng: random.Random, trials: int, share: float) -> int:
    """Return how many of the trials succeed, each with probability `share` (0 to 1)."""
    if share <= 0:
        return 0
    if share >= 1:
        return trials
    drawn = 0
    while trials > _SMALL:
        middle = 1 + trials // 2
        place = rng.betavariate(middle, trials + 1 - middle)
        if place >= share:
            trials, share = middle - 1, share / place
        else:
            drawn += middle
            trials, share = trials - middle, (share - place) / (1 - place)
    return drawn + sum(rng.random() < share for _ in range(trials))


def multinomial(rng: random.Random, trials: int, shares: Iterable[float]) -> list[int]:
    """Return how many of the trials fall to each share; the shares sum to 1."""
    result, left = [], 1.0
    for share in shares:
        drawn = binomial(rng, trials, min(1.0, share / left)) if trials and left > 0 else 0
        result.append(drawn)
        trials -= drawn
        left -= share
    return result


def poisson_table(mean: float) -> tuple[float, ...]:
    """Return the cumulated probabilities of 0, 1, 2 ... for `from_table`: one table, many fast draws."""
    if mean <= 0:
        return ()
    cumulated, total, count = [], 0.0, 0
    log_mean, last = math.log(mean), mean + 12 * math.sqrt(mean) + 12
    while count < last:
        total += math.exp(count * log_mean - mean - math.lgamma(count + 1))
        cumulated.append(total)
        count += 1
    return tuple(cumulated)


def from_table(rng: random.Random, table: tuple[float, ...]) -> int:
    """Return a draw from the distribution of a table."""
    return bisect_right(table, rng.random())
