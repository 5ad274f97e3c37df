from __future__ import annotations

from dataclasses import replace

from search.journal.records import Epoch, TrialRecord, TrialStatus
from search.tracking.values import OWN, tags_of


def test_a_trial_is_tagged_as_collapsed_once_it_has_ended_like_that() -> None:
    bad, good = Epoch(1, {"val_accuracy": 0.1}, collapsed="one class"), Epoch(2, {"val_accuracy": 0.5})
    running = TrialRecord(0, "random", {}, {}, TrialStatus.RUNNING, history=(bad,))
    assert OWN + "collapsed" not in tags_of(running, {})
    assert tags_of(replace(running, status=TrialStatus.STOPPED), {})[OWN + "collapsed"] == "one class"
    recovered = replace(running, status=TrialStatus.COMPLETED, history=(bad, good))
    assert OWN + "collapsed" not in tags_of(recovered, {})
