"""The spaces that ship, damaged: read as another space that can be walked, or refused in clear words."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spaces import Choice, Domain, Scalar, parse_space, read_study, space_tree, study_names, walk
from tests.mutations import mutated, read_or_refused

SPACES = [read_study(name)["space"] for name in study_names()]


def last(_: str, domain: Domain) -> Scalar:
    return domain.options[-1] if isinstance(domain, Choice) else domain.high


@given(st.sampled_from(SPACES).flatmap(mutated))
def test_a_mutated_space_can_be_walked_or_is_refused(tree: Any) -> None:
    space = read_or_refused(lambda: parse_space(tree))
    if space is not None:
        walk(space, last)
        assert parse_space(space_tree(space)) == space
