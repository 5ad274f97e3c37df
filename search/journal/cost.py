"""What a search costs: the nodes that are alive, by type, times what a node of that type costs an hour.

Amounts are in the currency of the prices. Nodes count from when the driver sees them until it sees that they are gone,
while a session runs: what an idle head costs between two sessions is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from search.journal.events import CostCounted, Event, SessionEnded, SessionStarted

__all__ = ["UNTYPED", "Prices", "Spending", "amount", "cost_due", "final_cost", "hourly", "spent_of", "unpriced"]

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


def spent_of(spent: float, limit: float | None) -> str:
    """An amount and its limit, if any: `2.31 of 20.00`."""
    return amount(spent) + (f" of {amount(limit)}" if limit is not None else "")


@dataclass(frozen=True, slots=True)
class Spending:
    """What a study has cost, all sessions together, according to its journal.

    `total` was spent until `since`, and `rate` is spent an hour from then on. `latest` is when the last event of the
    session was written; both in seconds since 1970. `nodes` are those that the session has counted last, by type.
    `counted` is false as long as there were no prices.
    """

    total: float = 0.0
    rate: float = 0.0
    since: float = 0.0
    latest: float = 0.0
    nodes: Mapping[str, int] = field(default_factory=dict)
    counted: bool = False

    def at(self, now: float) -> float:
        """What has been spent by then, if nothing has changed."""
        return self.total + self.rate * max(now - self.since, 0.0) / 3600

    @property
    def spent(self) -> float:
        """What had been spent when the last event was written: a killed session is known to have run until then."""
        return self.at(self.latest)

    def after(self, event: Event) -> Spending:
        """With one more event."""
        latest = max(self.latest, event.time)
        match event:
            case CostCounted():
                # As of its own time, also where the clock was set back: what was later is in the total.
                return Spending(event.total, event.rate, event.time, event.time, event.nodes, counted=True)
            case SessionStarted():  # the nodes of the session before are not this one's
                return replace(self, total=self.spent, rate=0.0, since=event.time, latest=event.time, nodes={})
            case SessionEnded():
                return replace(self, total=self.at(latest), rate=0.0, since=event.time, latest=latest)
        return self if latest == self.latest else replace(self, latest=latest)


def cost_due(spending: Spending, prices: Prices | None, nodes: Mapping[str, int], now: float) -> list[CostCounted]:
    """What to record now that these nodes are alive: nothing without prices, or while the last count still holds."""
    if prices is None:
        return []
    rate = hourly(prices, nodes)
    holds = nodes == spending.nodes and rate == spending.rate
    if holds and 0 <= now - spending.since < INTERVAL:  # below 0 the clock was set back
        return []
    return [CostCounted(total=spending.at(now), rate=rate, nodes=dict(nodes), time=now)]


def final_cost(spending: Spending, now: float) -> list[CostCounted]:
    """What to record at the end of a session: nothing if it counted no nodes."""
    if not spending.nodes:
        return []
    return [CostCounted(total=spending.at(now), rate=spending.rate, nodes=dict(spending.nodes), time=now)]
