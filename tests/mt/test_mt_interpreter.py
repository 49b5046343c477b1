"""Who has switched the GIL on again."""

from __future__ import annotations

from nimloop_mt._interpreter import extensions, gil_culprits, switches_gil_on


def test_culprits_are_those_found_guilty() -> None:
    """Each module is tried, and the order is kept."""
    assert gil_culprits(["a", "b", "c"], {"c", "a"}.__contains__) == ["a", "c"]


def test_what_cannot_be_imported_is_not_guilty() -> None:
    """An import error has an exit status, too: that of a GIL."""
    assert not switches_gil_on("no_module_of_that_name")


def test_the_standard_library_is_not_suspected() -> None:
    """Its own libraries do without."""
    assert not {"_ssl", "_socket", "math"} & set(extensions())
