"""Suites that every searcher, scheduler or trainable must pass: inherit one and override its fixture."""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{suite}_suite" for suite in ("searcher", "scheduler", "trainable")))
