"""What a job of Ray brings along, as one zip, which Ray unpacks into a working folder on each node.

It holds the study file, the script that begins it, small data and, if the study file names a wheel, rarecall.
Ray's own way with a wheel, `py_modules`, would install all that the wheel depends on, torch included, on each
node, and would take a changed wheel of the same version for the one it has.
"""

import zipfile
from pathlib import Path

import yaml

from search.launching.brought import bring
from search.launching.wanted import Wanted
from spaces.errors import UsageError
from trainables.storage.address import Address

SCRIPT = Path(__file__).parent / "assets" / "job.sh"
STARTS = "rarecall/__main__.py"  # in a wheel of ours


def package(wanted: Wanted) -> Path:
    """Write it beside the study file.

    Args:
        wanted: What is launched.

    Raises:
        UsageError: The study file holds a password, the wheel is none of rarecall, or the data cannot be
            brought.
    """
    config = wanted.config
    if config.kept() != config:
        raise UsageError(
            f"{wanted.file.name}: study_db: its password would be readable by all who use the cluster",
            "leave it out: the head has it in RARECALL_DB_PASSWORD, or as its own programs do (~/.pgpass)",
        )
    brought = bring(config)
    if isinstance(wanted.runs, Address) and brought.files:
        listed = ", ".join(sorted(brought.places))
        raise UsageError(
            f"{wanted.file.name}: {listed}: what a job brings is placed in a folder of --runs, and "
            f"{wanted.runs.place} is none",
            "have them where all nodes see them: `launch: {shared: FOLDER}`",
        )
    named = config if isinstance(wanted.runs, Address) else brought.named(config, wanted.runs)
    study = named.model_dump(mode="json")
    wheel = None if config.launch.wheel is None else wanted.file.parent / config.launch.wheel
    written = wanted.beside(".job.zip")
    partial = written.with_name(f".{written.name}.tmp")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as packed:
            packed.writestr("study.yaml", yaml.safe_dump(study, sort_keys=False))
            packed.write(SCRIPT, SCRIPT.name)
            if wheel is not None:
                _add_wheel(packed, wheel)
            for place, file in brought.files.items():
                packed.write(file, place)
        partial.replace(written)
    finally:
        partial.unlink(missing_ok=True)
    return written


def _add_wheel(packed: zipfile.ZipFile, wheel: Path) -> None:
    """What is in it, at the top, where Ray lets every process of the job look for modules."""
    where = f"launch.wheel: {wheel}"
    try:
        with zipfile.ZipFile(wheel) as opened:
            if STARTS not in opened.namelist():
                raise UsageError(f"{where} holds no rarecall that a job can start", "`pip wheel --no-deps .`")
            for name in opened.namelist():
                packed.writestr(name, opened.read(name))
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{where}: no wheel: {error}", "`pip wheel --no-deps .` makes one") from None
