"""Random draws: the right distributions, and fast."""

import math
import statistics
from random import Random

import pytest
from scipy import stats

from controller.draws import binomial, from_table, multinomial, poisson, poisson_table


@pytest.mark.parametrize("mean", [0.0, 0.5, 20.0, 3000.0])
def test_poisson_draws_have_the_right_mean_and_variance(mean: float) -> None:
    rng = Random(1)
    drawn = [poisson(rng, mean) for _ in range(4000)]
    assert statistics.fmean(drawn) == pytest.approx(mean, rel=0.05, abs=0.05)
    assert statistics.variance(drawn) == pytest.approx(mean, rel=0.12, abs=0.05)


@pytest.mark.parametrize(("trials", "share"), [(10, 0.3), (500, 0.01), (5000, 0.5), (7, 1.0), (7, 0.0)])
def test_binomial_draws_have_the_right_mean_and_variance(trials: int, share: float) -> None:
    rng = Random(1)
    drawn = [binomial(rng, trials, share) for _ in range(4000)]
    assert statistics.fmean(drawn) == pytest.approx(trials * share, rel=0.05)
    assert statistics.variance(drawn) == pytest.approx(trials * share * (1 - share), rel=0.12, abs=1e-9)


def test_a_multinomial_draw_adds_up() -> None:
    drawn = multinomial(Random(1), 10_000, [0.5, 0.2, 0.2, 0.1])
    assert sum(drawn) == 10_000
    assert drawn[0] == pytest.approx(5000, abs=250)


@pytest.mark.parametrize("mean", [0.001, 0.7, 30.0, 5000.0])
def test_a_table_holds_the_whole_poisson_distribution(mean: float) -> None:
    table = poisson_table(mean)
    assert table[-1] == pytest.approx(1, abs=1e-9)
    for count in {0, math.floor(mean), math.ceil(mean + math.sqrt(mean))}:
        assert table[count] == pytest.approx(float(stats.poisson.cdf(count, mean)), abs=1e-9)


def test_draws_from_a_table_have_the_right_mean() -> None:
    rng, table = Random(1), poisson_table(7.5)
    drawn = [from_table(rng, table) for _ in range(4000)]
    assert statistics.fmean(drawn) == pytest.approx(7.5, rel=0.05)
    assert from_table(rng, poisson_table(0)) == 0
