"""The golden cases, however they are cut."""

from __future__ import annotations

import pytest
from tests.http.golden import ALL_CASES, CASES, Case, agrees
from tests.http.parsing import bytewise
from tests.http.parsing import scanner as scanner


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
def test_a_case_gives_its_result_however_it_is_cut(case: Case) -> None:
    """Whole, in two pieces cut at every place, byte by byte, and pushed before anything is taken."""
    data = case.data
    whole = case.parsed([data])
    assert agrees(whole, case.result), whole
    for cut in range(len(data) + 1):
        assert case.parsed([data[:cut], data[cut:]]) == whole, f"cut before byte {cut}"
    assert case.parsed(bytewise(data)) == whole
    assert case.parsed(bytewise(data), late=True) == whole


def test_every_case_file_has_cases_and_no_two_share_a_name() -> None:
    """A heading that the reader of the files overlooks would be a promise that nobody checks."""
    assert len({case.name for case in ALL_CASES}) == len(ALL_CASES)
    for path in CASES.glob("*.md"):
        headings = path.read_text().count("\n## ")
        found = {case.name.partition(" [")[0] for case in ALL_CASES if case.name.startswith(f"{path.stem}: ")}
        assert len(found) == headings
