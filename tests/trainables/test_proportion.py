"""Wilson's interval against SciPy's."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from trainables.proportion import wilson_interval


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 50), (50, 50), (262, 269), (5_000, 10_000)])
def test_the_interval_is_scipys(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson_interval(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-6)
