"""What a search costs: the nodes that are there, by type, times what a node of that type costs an hour.

Amounts are in the currency of the prices. Nodes count from when the driver sees them to when it sees that they are
gone, while a session runs: what an idle head costs between two sessions is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce

from search.journal.events import MOST_MONEY, CostCounted, Event, SessionEnded, SessionStarted

__all__ = ["UNTYPED", "CostMeter", "Prices", "Spending", "amount", "hourly", "spending", "told", "unpriced"]

Prices = float | Mapping[str, float]  # of a node an hour: the same for each, or by node type

UNTYPED = "node"  # what a node is called whose type Ray does not know, such as a machine without a cluster
INTERVAL = 60.0  # seconds between two counts while nothing changes: what a killed driver's session may lack


def hourly(prices: Prices, nodes: Mapping[str, int]) -> float:
    """What these nodes cost an hour together. A type without a price costs as much as the dearest."""
    if not isinstance(prices, Mapping):
        return prices * sum(nodes.values())
    dearest = max(prices.values())
    return sum(count * prices.get(kind, dearest) for kind, count in nodes.items())


def unpriced(prices: Prices | None, types: Iterable[str]) -> list[str]:
    """The node types without a price, in order; none where there are no prices at all."""
    return sorted(set(types).difference(prices)) if isinstance(prices, Mapping) else []


def amount(money: float) -> str:
    """Money to the cent, and to two digits where it is less than that would show."""
    return f"{money:.2f}" if money >= 0.1 or money == 0 else f"{money:.2g}"


def told(spent: float, limit: float | None) -> str:
    """What was spent, of how much: `2.31 of 20.00`."""
    return amount(spent) + (f" of {amount(limit)}" if limit is not None else "")


@dataclass(frozen=True, slots=True)
class Spending:
    """What a study has cost, all sessions together, as its journal tells.

    `total` was spent until `since`, and `rate` is spent an hour from then on. `latest` is when the last event of the
    session was written; all in seconds since 1970. `counted` tells whether there were prices at all.
    """

    total: float = 0.0
    rate: float = 0.0
    since: float = 0.0
    latest: float = 0.0
    counted: bool = False

    def at(self, now: float) -> float:
        """What has been spent by then, if nothing has changed."""
        return min(self.total + self.rate * max(now - self.since, 0.0) / 3600, MOST_MONEY)

    @property
    def spent(self) -> float:
        """What had been spent when the last event was written: a killed session is known to have run until then."""
        return self.at(self.latest)

    def after(self, event: Event) -> Spending:
        """With one event more."""
        latest = max(self.latest, getattr(event, "time", self.latest))
        match event:
            case CostCounted():
                # As of its own time, also where the clock was set back: what was later is in the total.
                return Spending(event.total, event.rate, event.time, event.time, counted=True)
            case SessionStarted():  # the nodes of the session before are not this one's
                return replace(self, total=self.spent, rate=0.0, since=event.time, latest=event.time)
            case SessionEnded():
                return replace(self, total=self.at(latest), rate=0.0, since=event.time, latest=latest)
        return self if latest == self.latest else replace(self, latest=latest)


def spending(events: Iterable[Event]) -> Spending:
    """Fold a whole journal."""
    return reduce(Spending.after, events, Spending())


class CostMeter:
    """Says when the cost must be written down, and when it has reached its limit. Fed with every event.

    Args:
        prices: of a node an hour; None counts nothing.
        limit: the most that may be spent, None for no limit.
    """

    def __init__(self, prices: Prices | None, limit: float | None) -> None:
        self._prices, self._limit = prices, limit
        self._nodes: Mapping[str, int] = {}  # as the session has written them last
        self.spending = Spending()

    def take(self, event: Event) -> None:
        """Learn of an event, one that happens or one that is replayed."""
        self.spending = self.spending.after(event)
        if isinstance(event, SessionStarted):
            self._nodes = {}
        elif isinstance(event, CostCounted):
            self._nodes = event.nodes

    def count(self, nodes: Mapping[str, int], now: float) -> CostCounted | None:
        """What to write down now that these nodes are there; None while the last count still holds."""
        if self._prices is None:
            return None
        rate = hourly(self._prices, nodes)
        holds = nodes == self._nodes and rate == self.spending.rate
        if holds and 0 <= now - self.spending.since < INTERVAL:  # below 0 the clock was set back
            return None
        return CostCounted(total=self.spending.at(now), rate=rate, nodes=dict(nodes), time=now)

    def last_count(self, now: float) -> list[CostCounted]:
        """What to write down at the end of a session: nothing if it saw no nodes."""
        if not self._nodes:
            return []
        rate = self.spending.rate
        return [CostCounted(total=self.spending.at(now), rate=rate, nodes=dict(self._nodes), time=now)]

    def used_up(self, now: float) -> bool:
        """Whether as much as allowed has been spent."""
        return self._limit is not None and self.spending.at(now) >= self._limit
