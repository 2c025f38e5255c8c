"""The words of the page."""

from search.export.page.glossary import KNOBS
from spaces.strategy import PLAIN


def test_every_knob_is_explained() -> None:
    assert set(KNOBS) == set(PLAIN.knobs())
