"""Tests that every searcher and every scheduler should pass, for authors of plug-ins.

Inherit a suite in a test module, and pytest runs its tests on yours:

    from search.testing.searchers import SearcherSuite

    class TestMySearcher(SearcherSuite):
        def make(self, space, seed, mode):
            return MySearcher(space, seed)

`pytest.register_assert_rewrite("search.testing.searchers")` in your conftest.py shows the values of an assertion that
fails. The suites themselves import no pytest.
"""
