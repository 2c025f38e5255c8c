"""What a study file writes for `space:`, as the fields of a `SearchSpace`. Presets are files of `spaces`."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from search.request.config_errors import did_you_mean
from spaces.strategy import WORDS
from spaces.yaml_file import read_yaml

PRESETS = Path(str(files("spaces"))) / "presets"


def expand_space(raw: Any) -> Any:
    """`detection`, or `{preset: detection, retention: [0.3, 0.5], …}`, as the fields of a `SearchSpace`.

    A knob given here replaces the preset's; so does `first`. Without `preset` only what is given is searched.
    A word that stands for a knob's value (`alpha_prior: sampled`) becomes its number.
    """
    if isinstance(raw, str):
        raw = {"preset": raw}
    if not isinstance(raw, dict):
        raise ValueError(f"space: a preset's name or a mapping of knobs, got {raw!r}")
    if "dimensions" in raw:
        return raw
    rest = dict(raw)
    preset = rest.pop("preset", None)
    dimensions: dict[str, Any] = {}
    first: Any = ()
    if preset is not None:
        known = sorted(path.stem for path in PRESETS.glob("*.yaml"))
        if preset not in known:
            raise ValueError(f"space: no such preset '{preset}'{did_you_mean(str(preset), known)}")
        stored = read_yaml(PRESETS / f"{preset}.yaml")
        dimensions, first = stored["dimensions"], stored["first"]
    first = rest.pop("first", first)
    given = {knob: _in_numbers(value, WORDS.get(knob, {})) for knob, value in rest.items()}
    return {"dimensions": {**dimensions, **given}, "first": first}


def _in_numbers(value: Any, words: dict[str, float]) -> Any:
    """`value`, or each of a list or of `choices`, with its words as numbers; others stay, to be refused."""
    if isinstance(value, list):
        return [_in_numbers(each, words) for each in value]
    if isinstance(value, dict):
        return {key: _in_numbers(each, words) for key, each in value.items()}
    return words.get(value, value) if isinstance(value, str) else value
