"""What README and the pages of `docs` ask a reader to type: fenced blocks, and commands in the text."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from places import ROOT

PAGES = ("README.md", *sorted(str(file.relative_to(ROOT)) for file in (ROOT / "docs").glob("*.md")))
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:rarecall|pip install) [^`]+)`")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: That it stands on.
        language: As the fence names it; empty for what is shown and not typed. `text` for a command that
            stands within a sentence, or in another block's comment.
        text: Its lines.
    """

    page: str
    language: str
    text: str

    def commands(self) -> list[str]:
        """What a shell is given, one command after the other, without comments."""
        assert self.language in ("sh", "text")
        lines = [re.sub(r"\s+#\s.*", "", line) for line in self.text.splitlines()]
        return [one.strip() for line in lines for one in line.split(" && ") if one.strip()]


def blocks(page: str) -> list[Block]:
    """What stands on a page, in its order."""
    found, text, at = list[Block](), (ROOT / page).read_text(), 0
    for fence in _FENCED.finditer(text):
        found += _inline(page, text[at : fence.start()])
        found.append(Block(page, fence[1], fence[2]))
        found += _inline(page, fence[2]) if fence[1] == "sh" else []
        at = fence.end()
    return [*found, *_inline(page, text[at:])]


def _inline(page: str, text: str) -> Iterator[Block]:
    for one in _INLINE.finditer(text):
        yield Block(page, "text", one[1].replace("\n", " "))


def words(command: str) -> list[str]:
    """As a shell splits them."""
    return shlex.split(command)
