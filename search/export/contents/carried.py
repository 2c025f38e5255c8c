"""The files of our source that a script of a bundle needs: found by their imports, and read, not imported.

Importing them would load torch. They are copied byte for byte, so that what is done is what was measured.
"""

import ast
from collections.abc import Collection, Iterable, Iterator
from importlib.resources import files
from pathlib import Path

CARRIED = "carried"
START = "start"  # what a training starts from, if that was a person's own
OURS = ("spaces", "trainables")


def carry(bundle: Path, scripts: Iterable[str], without: Collection[str] = ()) -> None:
    """Copy what scripts of a bundle import of ours, and what that imports, into `carried`.

    Args:
        bundle: A folder that exists.
        scripts: Their text.
        without: Modules and packages that are not followed, e.g. of another task.

    Raises:
        OSError: A file cannot be written.
    """
    for name, content in needed(scripts, without).items():
        place = bundle / CARRIED / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def needed(scripts: Iterable[str], without: Collection[str] = ()) -> dict[str, bytes]:
    """Name -> content of the files, e.g. `trainables/contract/trial.py`; as of `carry`."""
    found: dict[str, bytes] = {}
    left = [module for script in scripts for module in _imported(script)]
    while left:
        module = left.pop()
        name = _file_of(module)
        if name is None or name in found or _within(module, without):
            continue
        found[name] = source(name)
        package, _, _ = module.rpartition(".")
        left += [*_imported(found[name].decode()), package]
    return found


def source(name: str) -> bytes:
    """Of a file of our packages."""
    return _place(name).read_bytes()


def _place(name: str) -> Path:
    return Path(str(files(name.partition("/")[0].removesuffix(".py")))).parent / name


def _within(module: str, packages: Collection[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _imported(script: str) -> Iterator[str]:
    """The modules that a script imports anywhere; a name that is taken out of one may be a module, too."""
    for node in ast.walk(ast.parse(script)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _file_of(module: str) -> str | None:
    """Its file, if it is one of ours."""
    if module.partition(".")[0] not in OURS:
        return None
    path = module.replace(".", "/")
    return next((name for name in (f"{path}.py", f"{path}/__init__.py") if _place(name).is_file()), None)
