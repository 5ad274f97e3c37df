"""What nodes cost, and what a journal tells of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path

import pytest

from search.engine.study_folder import continued
from search.journal.cost import Prices, Spending, amount, cost_due, final_cost, hourly, spent_of, unpriced
from search.journal.events import CostCounted, Event, SessionEnded, SessionStarted, TrialEnded, TrialStatus
from search.planning.resources import check_prices
from search.study.overrides import override
from search.views.plan import cost_line
from tests.search.sample_study import sample_spec, write_study
from trainables.config import ConfigError

PRICES = {"head": 0.1, "spot": 0.4, "on_demand": 1.0}


def started(session: int, time: float) -> SessionStarted:
    return SessionStarted(session=session, time=time, versions={})


def counted(total: float, rate: float, time: float) -> CostCounted:
    return CostCounted(total=total, rate=rate, nodes={"node": 1}, time=time)


def ended(time: float) -> TrialEnded:
    return TrialEnded(trial=0, status=TrialStatus.STOPPED, time=time)


def spending(events: Iterable[Event]) -> Spending:
    return reduce(Spending.after, events, Spending())


def test_nodes_times_prices() -> None:
    assert hourly(0.5, {"head": 1, "spot": 3}) == 2.0
    assert hourly(PRICES, {"head": 1, "spot": 3}) == pytest.approx(1.3)
    assert hourly(PRICES, {"head": 1, "other": 2}) == pytest.approx(2.1)  # as dear as the dearest
    assert hourly(PRICES, {}) == 0


def test_types_without_a_price() -> None:
    assert unpriced(PRICES, ["spot", "tpu", "head", "node"]) == ["node", "tpu"]
    assert unpriced(0.4, ["tpu"]) == unpriced(None, ["tpu"]) == []
    check_prices(PRICES, ["spot", "head"])
    check_prices(0.4, ["spot", "head"])
    with pytest.raises(ConfigError, match=r"--price: .*tpu is missing: --price tpu=X, or --price X for each"):
        check_prices(PRICES, ["spot", "tpu"])
    with pytest.raises(ConfigError, match=r"node is missing \(node: one whose type Ray does not know\)"):
        check_prices(PRICES, ["node"])


@pytest.mark.parametrize(
    ("money", "text"), [(0.0, "0.00"), (2.306, "2.31"), (0.1, "0.10"), (0.0123, "0.012"), (1234.5, "1234.50")]
)
def test_amounts(money: float, text: str) -> None:
    assert amount(money) == text
    assert spent_of(money, None) == text
    assert spent_of(money, 20) == f"{text} of 20.00"


def test_what_a_journal_tells() -> None:
    events: list[Event] = [started(1, 1000.0), ended(1500.0)]
    assert spending(events) == Spending(since=1000.0, latest=1500.0)  # no prices
    events += [counted(0.0, 3.6, 2000.0), ended(2100.0)]
    assert spending(events).spent == pytest.approx(0.1)
    assert spending(events).at(3000.0) == pytest.approx(1.0)
    # Killed at 2100, as far as is known; the next one's nodes count from when they are seen.
    events += [started(2, 9000.0), ended(9100.0)]
    assert spending(events).spent == pytest.approx(0.1)
    events += [counted(0.1, 7.2, 9200.0), SessionEnded(session=2, reason="interrupted", time=9700.0)]
    assert spending(events).spent == pytest.approx(1.1)
    assert spending(events).at(10**9) == pytest.approx(1.1)


def test_a_clock_that_was_set_back_gives_no_money_back() -> None:
    events = [started(1, 1000.0), counted(0.0, 3.6, 2000.0), ended(3000.0), ended(1500.0)]
    assert spending(events).spent == pytest.approx(1.0)
    assert spending(events).at(500.0) == 0.0


def counts(
    prices: Prices | None, *steps: tuple[dict[str, int], float], events: Sequence[Event] = ()
) -> list[CostCounted]:
    """What is recorded while these nodes are seen at these times."""
    spent, written = spending([started(1, 0.0), *events]), []
    for nodes, now in steps:
        for event in cost_due(spent, prices, nodes, now):
            written.append(event)
            spent = spent.after(event)
    return written


def test_it_is_written_when_nodes_change_and_once_a_minute() -> None:
    head, both = {"head": 1}, {"head": 1, "spot": 2}
    written = counts(PRICES, (head, 100.0), (head, 159.0), (head, 160.0), (both, 161.0), (both, 170.0), (both, 10.0))
    assert [event.time for event in written] == [100.0, 160.0, 161.0, 10.0]  # at the last the clock was set back
    assert written[1] == CostCounted(total=0.1 * 60 / 3600, rate=0.1, nodes=head, time=160.0)
    assert (written[2].rate, written[2].nodes) == (pytest.approx(0.9), both)
    assert written[2].total == pytest.approx(0.1 * 61 / 3600)
    assert [event.time for event in final_cost(spending([started(1, 0.0), *written]), 15.0)] == [15.0]
    assert counts(None, (head, 10.0)) == []


def test_each_session_counts_its_own_nodes_at_its_own_prices() -> None:
    before = [counted(0.0, 0.4, 0.0), ended(3600.0), started(2, 9000.0)]
    assert final_cost(spending([started(1, 0.0), *before]), 9000.0) == []
    (first,) = counts({"spot": 4.0}, ({"spot": 1}, 9000.0), events=before)
    assert first == CostCounted(total=0.4, rate=4.0, nodes={"spot": 1}, time=9000.0)
    assert spending([started(1, 0.0), *before, first]).at(12600.0) == pytest.approx(4.4)


def test_a_study_that_goes_on_keeps_its_prices_and_its_limit_may_grow(tmp_path: Path) -> None:
    begun = override(sample_spec(), max_cost=2, prices=["spot=1"])
    folder = write_study(tmp_path / "sample", begun, [])
    assert continued(sample_spec(), folder).resources.prices == {"spot": 1.0}
    assert continued(sample_spec(), folder).budget.max_cost is None
    more = continued(override(sample_spec(), max_cost=3, prices=["0.5"]), folder)
    assert (more.budget.max_cost, more.resources.prices) == (3, 0.5)
    with pytest.raises(ConfigError, match=r"--max-cost: may grow but not shrink, .* was begun with 2;"):
        continued(override(begun, max_cost=1), folder)


def test_a_dry_run_says_what_it_would_cost_and_where_it_would_be_cut_off() -> None:
    spec, nodes = override(sample_spec(), prices=["head=0.1", "spot=0.45"]), {"head": 1, "spot": 2}
    assert cost_line(spec, 7200.0, nodes) == "cost: about 2.00, with 1 head, 2 spot up now, for 1.00 an hour together"
    assert cost_line(override(spec, max_cost=3), 7200.0, nodes).endswith("together; at most 3.00")
    cut = cost_line(override(spec, max_cost=0.5), 7200.0, nodes)
    assert cut.endswith("together; cut off at 0.50, after about 30 min and 25 % of it")
    assert "about 1.00," in cost_line(override(spec, hours=1), 7200.0, nodes)
