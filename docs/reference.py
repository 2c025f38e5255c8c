"""Pages that are made from the code when the documentation is built: the study file, knobs and metrics.

A hook of MkDocs. So they say what the code does, with the words of its docstrings.
"""

import inspect
import re
from typing import Any, get_args

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from search.export.page.glossary import METRICS, PREFIXES, meaning, short
from search.request.config import StudyConfig
from spaces.augmentation import Augmentation
from spaces.division import Division
from spaces.loss import Loss
from spaces.sampling import Sampling
from spaces.strategy import NAMED, SENTENCES
from trainables.contract.tasks import LOWER_IS_BETTER, TASKS

TASKS_SHOWN = ("detection", "classification")
FILLED = {"minority", "objectives", "guards", "space"}  # before they are checked, so a user need not
NO_KEYS = {"space"}  # a study file writes it otherwise than the code keeps it


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    pages = {"study-file": study_file(), "knobs": knobs(), "metrics": metrics()}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def study_file() -> str:
    """Every key of a study file: what it is, its default."""
    return "\n".join(["# Study file: every key", "", *_section(StudyConfig, "")])


def _section(model: type[BaseModel], prefix: str) -> list[str]:
    said = _attributes(model)
    rows, nested = ["| key | what it is | default |", "|---|---|---|"], []
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        needed = field.default is PydanticUndefined and field.default_factory is None and name not in FILLED
        default = "required" if needed else ""
        if field.default is not PydanticUndefined and not isinstance(field.default, BaseModel):
            default = f"`{_plain(field.default)}`"
        rows.append(f"| `{key}` | {_cell(said.get(name, ''))} | {default} |")
        for inner in (field.annotation, *get_args(field.annotation)):
            if inspect.isclass(inner) and issubclass(inner, BaseModel) and name not in NO_KEYS:
                nested += ["", f"## `{key}`", "", *_section(inner, f"{key}.")]
    return [*rows, *nested]


def knobs() -> str:
    """Every knob, and every named strategy."""
    lines = ["# Knobs and named strategies", ""]
    for family in (Sampling, Loss, Augmentation, Division):
        said = _attributes(family)
        lines += [f"## {family.__name__}", "", "| knob | what it does | off |", "|---|---|---|"]
        lines += [
            f"| `{name}` | {_cell(said.get(name, ''))} | `{_plain(field.default)}` |"
            for name, field in family.model_fields.items()
        ]
        lines.append("")
    lines += ["## Named strategies", "", "| name | what it is | knobs |", "|---|---|---|"]
    for name, strategy in NAMED.items():
        changed = ", ".join(f"`{knob}: {value:g}`" for knob, value in strategy.changed().items())
        lines.append(f"| `{name}` | {_cell(SENTENCES[name])} | {changed} |")
    return "\n".join(lines)


def metrics() -> str:
    """Every metric, and what stands before one."""
    lines = ["# Metrics", "", "| metric | name | what it is | for |", "|---|---|---|---|"]
    for metric in METRICS:
        tasks = [task for task in TASKS_SHOWN if _knows(task, metric)]
        lower = " Less is better." if metric in LOWER_IS_BETTER else ""
        lines.append(
            f"| `{metric}` | {short(metric)} | {_cell(meaning(metric))}{lower} | {', '.join(tasks)} |"
        )
    lines += ["", "## What may stand before a metric", "", "| prefix | what it says |", "|---|---|"]
    lines += [f"| `{prefix}` | {_cell(said)} |" for prefix, (_, said) in PREFIXES.items()]
    return "\n".join(lines)


def _knows(task: Any, metric: str) -> bool:
    traits = TASKS[task]
    known = {*traits.metrics, *traits.per_class, *traits.reported, *traits.operating_point}
    return any(one.rpartition("/")[2] == metric for one in known)


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """Name -> text, of the docstring's `Attributes:`."""
    text = inspect.getdoc(model) or ""
    _, _, listed = text.partition("Attributes:\n")
    return {
        name: " ".join(said.split())
        for name, said in re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", listed, re.DOTALL | re.MULTILINE)
    }


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
