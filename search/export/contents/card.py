"""What goes with a bundle's weights: MODEL_CARD.md in Hugging Face's format, provenance, requirements."""

import json
from collections.abc import Collection, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from search.export.chosen import Chosen
from search.judging.confirmation import load
from search.judging.diagnostics import diagnose, lines
from search.judging.learning import support_of
from search.judging.statistics.values import Bounds
from search.record.folder import StudyFolder
from search.record.outcomes import Baseline
from search.record.study import Study
from search.request.config import StudyConfig
from search.show.common import in_words
from trainables.contract.tasks import MERGED, TASKS, Task
from trainables.contract.trial import Metrics, WholeImages
from trainables.storage.address import is_address, parsed

READING = ("albumentations", "numpy", "opencv-python-headless", "pillow", "pydantic", "pyyaml")
CARD, PROVENANCE = "MODEL_CARD.md", "provenance.json"
PIPELINES: dict[Task, str] = {"detection": "object-detection", "classification": "image-classification"}
# Of whoever uses the weights, or trains them again: what for -> packages.
REQUIREMENTS: dict[Task, dict[str, tuple[str, ...]]] = {
    "detection": {
        "pt": ("ultralytics", "torch", "torchvision", "numpy", "opencv-python"),
        "torchscript": ("torch", "numpy", "opencv-python-headless"),
        "onnx": ("onnxruntime", "numpy", "opencv-python-headless"),
        "train": ("ultralytics", "torch", "torchvision", *READING),
    },
    "classification": {
        "pt": ("torch", "torchvision", "numpy", "pillow"),
        "torchscript": ("torch", "numpy", "pillow"),
        "onnx": ("onnxruntime", "numpy", "pillow"),
        "train": ("torch", "torchvision", "scipy", *READING),
    },
}


def requirements(config: StudyConfig, formats: Collection[str]) -> dict[str, str]:
    """Name -> content of the files that say which packages a script was tested with.

    Args:
        config: Of the study.
        formats: Of the weights besides `.pt`.
    """
    model, start = config.train.model, config.train.weights or ""
    more = ["timm"] if model.startswith("timm/") else []
    for_training = [*more, *(["safetensors"] if start.endswith(".safetensors") else [])]
    for_training += ["scikit-learn"] if config.data == "demo:digits" else []
    place = config.data if isinstance(config.data, str) else config.data.images
    for_training += ["pyarrow"] if is_address(place) else []
    added = {"pt": more, "train": for_training}
    written = {}
    for kind, packages in REQUIREMENTS[config.task].items():
        if kind not in {"pt", "train", *formats}:
            continue
        name = "requirements.txt" if kind == "pt" else f"requirements-{kind}.txt"
        user = "train.py" if kind == "train" else f"predict.py with weights.{kind}"
        names = (*packages, *added.get(kind, []))
        pinned = "".join(f"{one}=={metadata.version(one)}\n" for one in names)
        written[name] = f"# What {user} was tested with.\n{pinned}"
    return written


def provenance(folder: StudyFolder, study: Study, chosen: Chosen) -> str:
    """Where the weights come from, as JSON: the study, the run, versions, the data's fingerprint."""
    stored = folder.provenance
    said = {
        "study": study.config.name,
        "of": chosen.name,
        "run": chosen.report.key,
        "seed": chosen.seed,
        "split": chosen.split,
        "minority": list(study.minority),
        "data_fingerprint": stored.data_fingerprint,
        "evaluator": stored.evaluator,
        "created": stored.created,
        "python": stored.python,
        "versions": stored.versions,
        "git_sha": stored.git_sha,
        "device": chosen.report.device,
        "seconds": chosen.report.seconds,
        "restarts": chosen.report.restarts,
        "exported_by": metadata.version("rarecall"),
    }
    return json.dumps(said, indent=2) + "\n"


def model_card(
    folder: StudyFolder, study: Study, chosen: Chosen, again: Sequence[str], *, usable: bool
) -> str:
    """What the weights are, how good and how sure, and how they are used.

    Args:
        folder: The study's.
        study: Its record.
        chosen: The run.
        again: Paragraphs on how it is trained again.
        usable: Whether there is a `predict.py`.
    """
    rare, task = ", ".join(f"`{name}`" for name in study.minority), study.config.task
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(folder, study, chosen), sort_keys=False)}---\n",
        f"# {study.config.name}: {chosen.name}\n",
        f"{_what(task)} trained to find the rare {_classes(study.minority)} {rare}. Strategy: "
        f"{in_words(chosen.strategy)}.\n",
        "## How good it is\n",
        *_how_good(study, chosen),
        "## What is known to be wrong with it\n",
        *([f"- {line}\n" for line in _notes(study, chosen)] or ["Nothing that was looked for.\n"]),
        "## What it is for\n",
        f"Finding {rare} in images like those it was trained on: `{_data(study)}`. What is said above holds "
        "for such images. For others, from another device, place or time, measure first, on images of your "
        "own with at least as many rare objects. It is no substitute for a person where what is missed or "
        "invented does harm.\n",
        "## How to use it\n",
        _how_to_use(task) if usable else "Nothing says how these weights are used.\n",
        "## Training it again\n",
        *[f"{paragraph}\n" for paragraph in again],
        "Everything that the training was asked is in `config.yaml`, and where it came from in "
        f"`{PROVENANCE}`; the data's fingerprint is `{folder.provenance.data_fingerprint}`.\n",
    ]
    return "\n".join(parts)


def _front_matter(folder: StudyFolder, study: Study, chosen: Chosen) -> dict[str, Any]:
    """What Hugging Face reads of a card; unknown metrics are left out."""
    config, task = study.config, study.config.task
    pipeline = PIPELINES.get(task, "other")
    deciding = [*config.objectives, *(guard.metric for guard in config.guards), *TASKS[task].operating_point]
    deciding += [name for name in chosen.report.metrics if "deployed/" in name]
    dataset = {
        "name": config.name,
        "type": _data(study),
        "split": chosen.split,
        "revision": folder.provenance.data_fingerprint,
    }
    values = [
        {"type": name, "name": name, "value": round(value, 6)}
        for name in dict.fromkeys(deciding)
        if (value := chosen.report.metrics.get(name)) is not None
    ]
    licence = {"license": "agpl-3.0"} if task == "detection" else {}  # Ultralytics' networks are under it
    library = {"detection": "ultralytics", "classification": "pytorch"}.get(task, "rarecall")
    model = {
        "name": f"{config.name}-{chosen.folder}",
        "results": [{"task": {"type": pipeline}, "dataset": dataset, "metrics": values}],
    }
    return {
        **licence,
        "library_name": library,
        "pipeline_tag": pipeline,
        "tags": ["class-imbalance", "rare-class", "rarecall"],
        "model-index": [model],
    }


def _what(task: Task) -> str:
    return {"detection": "A detector,", "classification": "A classifier,"}.get(task, "A model,")


def _classes(minority: Sequence[str]) -> str:
    return "class" if len(minority) == 1 else "classes"


def _data(study: Study) -> str:
    """Its name, without the place where it lies on this machine."""
    data = study.config.data
    place = data.images if isinstance(data, WholeImages) else data
    place = parsed(place).place if is_address(place) else place
    return place if place.startswith("demo:") else "/".join(Path(place).parts[-2:])


def _how_good(study: Study, chosen: Chosen) -> list[str]:
    if chosen.judged is None:
        return _as_searched(study, chosen)
    result = chosen.judged.result
    verdict, seeds = result.verdict, result.seeds
    alpha = load(study.experiment(chosen.judged.experiment), chosen.judged.experiment).plan.settings.alpha
    own = "" if chosen.split == "test" else " The weights here are the search's, which were not among them."
    said = [
        f"**{verdict.outcome}** in {chosen.judged.experiment}: the strategy was trained with "
        f"{seeds.candidate} fresh seeds and the baseline with {seeds.baseline}, and both were measured on "
        "the test split."
        f"{own} The chance that an acceptance is wrong is at most {alpha:g}, over all that was judged "
        "there.\n",
        f"{_support(result.means, study.minority)}\n",
    ]
    rows = [_row(bounds, result.baseline, result.means) for bounds in verdict.bounds]
    if rows:
        said.append(
            _table(("metric", "baseline", "this strategy", "gain", "asked", "sure of", "but for"), rows)
        )
    said += [f"- {reason}\n" for reason in (*verdict.reasons, *verdict.remarks)]
    return [*said, *_this_run(study, chosen)]


def _row(bounds: Bounds, baseline: Metrics, means: Metrics) -> tuple[str, ...]:
    """Of one requirement: what was asked, found, and of what one can be sure but for a chance."""
    asked, metric = bounds.requirement, bounds.requirement.metric
    least = "at most" if asked.lower_is_better else "at least"
    gain = f"{asked.sign * bounds.gain:+.3f}" if asked.against_baseline else ""
    form = "+.3f" if asked.against_baseline else ".3f"
    return (
        metric,
        _number(baseline.get(metric)),
        _number(means.get(metric)),
        gain,
        f"{least} {asked.sign * asked.margin:{form}}",
        f"{least} {asked.sign * bounds.lower:{form}}",
        f"{bounds.lower_level:.2%}",
    )


def _as_searched(study: Study, chosen: Chosen) -> list[str]:
    """Of a run that no confirmation has judged."""
    by_val = "its thresholds" if chosen.trial is None else "its strategy and its thresholds"
    return [
        f"**Not confirmed.** What follows is one training, measured on val. By val {by_val} were chosen, so "
        "it flatters; `rarecall confirm` would say how much of it is true.\n",
        f"{_support(chosen.report.metrics, study.minority)}\n",
        *_this_run(study, chosen),
    ]


def _this_run(study: Study, chosen: Chosen) -> list[str]:
    """The metrics of the run whose weights these are, beside the baseline's on the same split."""
    config, metrics = study.config, chosen.report.metrics
    baseline: Baseline | None = study.baseline() if chosen.split == "val" else None
    shown = [*config.objectives, *(guard.metric for guard in config.guards)]
    shown += [
        name for name in metrics if "deployed/" in name and name.count("/") == name.count("merged/") + 1
    ]
    rows = [
        (name, *([_spread(baseline, name)] if baseline else []), _number(metrics.get(name)))
        for name in dict.fromkeys(shown)
    ]
    head = ("metric", *([f"baseline, {len(baseline.seeds)} seeds"] if baseline else []), "these weights")
    return [f"These weights, on {chosen.split}:\n", _table(head, rows)]


def _spread(baseline: Baseline, name: str) -> str:
    sd = baseline.sd.get(name)
    return _number(baseline.metrics.get(name)) + ("" if sd is None else f" ± {sd:.3f}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _support(metrics: Metrics, minority: Sequence[str]) -> str:
    count = support_of(metrics, minority, MERGED)  # where there are whole images it is theirs that count
    if count is None:
        count = support_of(metrics, minority)
    if count is None:
        return "How many rare objects that was judged on was not noted."
    return f"It was judged on **{count:g} rare objects**."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines_ = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines_)


def _notes(study: Study, chosen: Chosen) -> list[str]:
    if chosen.judged is not None:
        return lines(chosen.judged.result.notes)
    baseline = study.baseline()
    usual = () if baseline is None else baseline.reports
    asked = study.config.confirm.min_gain
    return lines(diagnose(chosen.strategy, [chosen.report], usual, minority=study.minority, min_gain=asked))


def _how_to_use(task: Task) -> str:
    if task == "detection":
        return (
            "```sh\npip install -r requirements.txt\npython predict.py IMAGES --out found\n```\n\n"
            "finds what was measured: the confidence that counts and the biases of the classes are those "
            "that were chosen on val. `python predict.py --help` says more. In plain Ultralytics: "
            '`YOLO("weights.pt").predict(image, **yaml.safe_load(open("predict.yaml")))`.\n'
        )
    return (
        "```sh\npip install -r requirements.txt\npython predict.py IMAGE...\n```\n\n"
        "decides by the biases, and says probabilities by the temperature, that were fitted on val.\n"
    )
