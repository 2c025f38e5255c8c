"""A folder on a storage that is written to, copied within and tidied, as a study's is."""

import os
from collections.abc import Callable, Collection
from pathlib import Path

from trainables.storage.reading import FOLDERS, Storage


class Remote(Storage):
    """A study's folder, or that of all studies, on a storage; arguments and errors as of `Storage`."""

    mend = "make it, or mend --runs"
    go_on = "is the address right? Nothing finished is lost: --resume goes on once it can be reached"

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, whole or not at all."""

        def put(target: str) -> None:
            with self.system.open_output_stream(target) as stream:
                stream.write(content)

        self._patiently(lambda: self._whole(name, put))

    def put(self, file: Path, name: str) -> None:
        """Bring a file there, whole or not at all."""
        from pyarrow.fs import copy_files  # noqa: PLC0415

        def put(target: str) -> None:
            # With threads an upload may hang: github.com/apache/arrow/issues/32372
            copy_files(str(file), target, destination_filesystem=self.system, use_threads=False)

        self._patiently(lambda: self._whole(name, put))

    def get(self, name: str, file: Path) -> bool:
        """Fetch a file, whole or not at all; whether there is one."""
        from pyarrow.fs import copy_files  # noqa: PLC0415

        partial = file.with_name(f".{file.name}.{os.getpid()}")

        def call() -> bool:
            try:
                copy_files(self._of(name), str(partial), source_filesystem=self.system)
            except FileNotFoundError:
                return False
            partial.replace(file)
            return True

        try:
            return self._patiently(call)
        finally:
            partial.unlink(missing_ok=True)

    def copy(self, source: str, target: str) -> None:
        """Copy a file within the storage."""

        def call() -> None:
            self._make_folder(target)
            self.system.copy_file(self._of(source), self._of(target))

        self._patiently(call)

    def remove(self, name: str) -> None:
        """Remove a file; or there is none."""

        def call() -> None:
            try:
                self.system.delete_file(self._of(name))
            except FileNotFoundError:
                return

        self._patiently(call)

    def remove_folder(self, folder: str, first: Collection[str] = ()) -> None:
        """Remove a folder with all in it, or there is none; the files `first` go before the others."""
        for name in first:
            self.remove(f"{folder}/{name}")

        def call() -> None:
            try:
                self.system.delete_dir(self._of(folder))
            except FileNotFoundError:
                return

        self._patiently(call)

    def _make_folder(self, name: str) -> None:
        if self.system.type_name in FOLDERS:  # others have none
            self.system.create_dir(self._of(name).rpartition("/")[0])

    def _whole(self, name: str, put: Callable[[str], None]) -> None:
        """An object is there once all of it is; a file is put in place by its name."""
        target = self._of(name)
        if self.system.type_name not in FOLDERS:
            put(target)
            return
        self._make_folder(name)
        folder, _, last = target.rpartition("/")
        partial = f"{folder}/.{last}.{os.getpid()}.partial"
        put(partial)
        self.system.move(partial, target)
