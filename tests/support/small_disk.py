"""A file system of its own, that fills up, is enlarged, or may only be read."""

import subprocess
import time
from pathlib import Path
from typing import IO, NoReturn

import pytest


def write_for_ever(file: IO[bytes], block: bytes) -> NoReturn:
    while True:
        file.write(block)


class Disk:
    """In memory; skips the test where nothing can be mounted."""

    def __init__(self, root: Path, size: str = "3m") -> None:
        self.root = root
        self.root.mkdir()
        made = self._mount(f"size={size}")
        if made.returncode:
            pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")

    def _mount(self, options: str) -> subprocess.CompletedProcess[str]:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.root)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def fill(self) -> None:
        with (self.root / "ballast").open("ab", buffering=0) as ballast:
            for size in (4096, 1):
                with pytest.raises(OSError, match="No space left"):
                    write_for_ever(ballast, b"x" * size)

    def enlarge(self) -> None:
        assert self._mount("remount,size=100m").returncode == 0

    def forbid_writing(self) -> None:
        assert self._mount("remount,ro").returncode == 0

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.root)], check=True)


class Image(Disk):
    """In a file; whoever writes to it while it is away waits until it is back, as for a server of files."""

    def __init__(self, root: Path, size: str = "16M") -> None:
        self._image = root.with_suffix(".img")
        super().__init__(root, size)

    def _mount(self, options: str) -> subprocess.CompletedProcess[str]:
        with self._image.open("wb") as image:
            image.truncate(int(options.removeprefix("size=").removesuffix("M")) * 2**20)
        subprocess.run(["mkfs.ext4", "-q", str(self._image)], check=True)
        command = ["mount", "-o", "loop", str(self._image), str(self.root)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def be_away(self, seconds: float) -> None:
        subprocess.run(["fsfreeze", "-f", str(self.root)], check=True)
        try:
            time.sleep(seconds)
        finally:
            subprocess.run(["fsfreeze", "-u", str(self.root)], check=True)
