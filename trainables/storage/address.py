"""Addresses of storages, as in `--runs s3://bucket/runs` or `data: s3://bucket/set/data.yaml`.

Text alone: connects to nothing.
"""

import re
import string
from dataclasses import dataclass
from urllib.parse import quote

from spaces.errors import UsageError

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "file")
EXAMPLES = "as in s3://bucket/runs, gs://bucket/runs or file:///mnt/runs"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_WITH_USER = re.compile(r"://[^/?&]*:[^/?&]*@|(%3A|:)[^/&]*(%40|@)", re.IGNORECASE)
_SECRET = re.compile(r"[?&][^=&]*(key|pass|pwd|secret|token|sas|credential)[^=&]*=", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """Of a folder on a storage.

    Attributes:
        place: Scheme, bucket and path, without a slash at its end.
        query: What pyarrow takes beside, e.g. `endpoint_override=…&scheme=http`; may be empty.
    """

    place: str
    query: str = ""

    def __str__(self) -> str:
        """As pyarrow reads it."""
        return f"{self.place}?{self.query}" if self.query else self.place

    def __truediv__(self, name: str) -> "Address":
        """What lies in the folder."""
        return Address(f"{self.place}/{name}", self.query)

    @property
    def parent(self) -> "Address":
        """The folder it lies in."""
        return Address(self.place.rpartition("/")[0], self.query)

    @property
    def is_root(self) -> bool:
        """Whether it lies in nothing: it is a bucket."""
        return "/" not in self.place.partition("://")[2].lstrip("/")

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.place.rpartition("/")[2]


def is_address(text: str) -> bool:
    """Whether somebody means a storage, and no folder of this machine; it may be misspelled.

    Example:
        >>> [is_address(text) for text in ("s3://b/x", "s3:/b", "runs/s3", "./s3:/b")]
        [True, True, False, False]
    """
    return _ADDRESS.match(text) is not None


def parsed(text: str) -> Address:
    """An address that a person has typed.

    Raises:
        UsageError: It is none, or not as pyarrow takes it, or a password is in it: it would stand in process
            lists.
    """
    scheme, _, rest = text.partition(":")
    if scheme.lower() not in SCHEMES:
        raise UsageError(f"no kind of storage is called '{scheme}'", EXAMPLES)
    if _WITH_USER.search(text) or _SECRET.search(text):
        raise UsageError(
            f"no password or key may be in the address of a storage ({scheme}://…)",
            "set what the storage's own programs read, e.g. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "here and on every node",
        )
    if "#" in text:  # pyarrow would leave out what follows
        raise UsageError(f"'{text}': no # may be in the address of a storage", "%23 in its place means it")
    quoted = quote(text, safe=string.punctuation)
    if quoted != text:
        raise UsageError(
            f"'{text}': no blanks, nor letters beyond ASCII, may be in the address of a storage",
            f"this means the same: {quoted}",
        )
    place, _, query = rest.partition("?")
    path = place.removeprefix("//")
    if not place.startswith("//") or not path.strip("/") or (scheme == "file" and not path.startswith("/")):
        raise UsageError(f"'{text}' is not the address of a storage", EXAMPLES)
    return Address(f"{scheme.lower()}://{re.sub('(?<=.)/+', '/', path).rstrip('/')}", query)
