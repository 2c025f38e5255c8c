"""What a whole study prints and writes, to hold two versions against each other.

    python benchmarks/printed.py out/before --command "python -m search.cli"   # in a checkout of the one
    python benchmarks/printed.py out/after                                      # and of the other
    diff -r out/before out/after

What differs from run to run is masked. One trial runs at a time and the sampler is TPE, so that the order of
what is told does not depend on the machine.
"""

import argparse
import csv
import hashlib
import io
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
STUDY = "runs/digits"
COMMANDS = (
    ("check", "check digits.yaml"),
    ("strategies", "strategies --json"),
    ("search", "search digits.yaml"),
    ("pareto", f"pareto {STUDY} --all"),
    ("pareto_json", f"pareto {STUDY} --json"),
    ("pareto_csv", f"pareto {STUDY} --csv"),
    ("status_searched", f"status {STUDY}"),
    ("confirm", f"confirm {STUDY}"),
    ("confirm_json", f"confirm {STUDY} --json"),
    ("compare", f"compare {STUDY}"),
    ("compare_json", f"compare {STUDY} --json"),
    ("status", f"status {STUDY}"),
    ("status_json", f"status {STUDY} --json"),
    ("export", f"export {STUDY}"),
    ("export_json", f"export {STUDY} --json"),
    ("search_again", "search digits.yaml"),
    ("no_trial", f"export {STUDY} --trial 999"),
)
MASKS = (
    (
        r"(?m)^\d+:\d\d(:\d\d)?(, about [\d:]+ left)?; .*\n",
        "",
    ),  # progress: how many lines depends on the clock
    (r"\d{4}-\d\d-\d\d(T[\d:+]+)?", "DATE"),
    (r'("seconds": )[\d.e-]+', r"\1SECONDS"),
    (r'("git_sha": )"[0-9a-f]+"', r"\1SHA"),
)


def main() -> int:
    """Run the commands; returns 0 whatever they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--command", default="rarecall", help="how the version is called")
    parser.add_argument("--trials", type=int, default=12)
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        request = yaml.safe_load((ROOT / "examples" / "digits.yaml").read_text())
        request["search"] = {"trials": args.trials, "sampler": "tpe", "seed": 0}
        request["confirm"] |= {"seeds": 3, "baseline_seeds": 4, "more_seeds": 2}
        request["compare"] = {"strategies": ["weighted", "focal"], "seeds": 2, "reference_seeds": 3}
        request["resources"] = {"cpu": 2}
        (work / "digits.yaml").write_text(yaml.safe_dump(request, sort_keys=False))
        for name, words in COMMANDS:
            done = subprocess.run(
                [*shlex.split(args.command), *words.split()],
                cwd=work,
                capture_output=True,
                text=True,
                check=False,
            )
            said = f"{done.stdout}\n--- stderr\n{done.stderr}\n--- exit {done.returncode}\n"
            said = without_seconds(said) if name == "pareto_csv" else said
            (args.out / f"{name}.txt").write_text(masked(said, work))
            print(name, done.returncode, file=sys.stderr, flush=True)
        (args.out / "files.txt").write_text(masked(written(work / STUDY), work))
    return 0


def written(study: Path) -> str:
    """Every file that is meant for a person: text as it is, else its hash."""
    told = []
    for path in sorted(study.rglob("*")):
        name = path.relative_to(study).as_posix()
        if not path.is_file() or path.name.startswith(".") or name == "study.db":
            continue
        if name.startswith("trials/") and path.name not in {"weights.pt", "predictions.npz"}:
            continue
        text = path.suffix in {".yaml", ".json", ".csv", ".svg"}
        content = path.read_text() if text else hashlib.sha256(path.read_bytes()).hexdigest()
        told.append(f"== {name}\n{content}\n")
    return "".join(told)


def without_seconds(text: str) -> str:
    """CSV without the column that says how long a trial took."""
    head, separator, rest = text.partition("\n--- stderr")
    rows = list(csv.reader(io.StringIO(head)))
    dropped = rows[0].index("seconds")
    kept = "\n".join(",".join(row[:dropped] + row[dropped + 1 :]) for row in rows)
    return kept + separator + rest


def masked(text: str, work: Path) -> str:
    """Without times, dates, commits and the temporary folder."""
    text = text.replace(str(work), "WORK")
    for pattern, instead in MASKS:
        text = re.sub(pattern, instead, text)
    return text


if __name__ == "__main__":
    sys.exit(main())
