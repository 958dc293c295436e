"""Train a model on its task and rewrite its table in docs/results.md.

    python tests/benchmarks/results.py NAME --data=DIRECTORY --work=DIRECTORY [--jobs=2]
    python tests/benchmarks/results.py --page

NAME is a file of `tests/benchmarks/experiments`; the first directory holds the corpora, the second
is kept: the same command goes on with what was stopped, and repeats no run that has ended. Every
run is a process with one thread; `--jobs` of them run side by side. `--quick` is a trial of the
code with one seed, which leaves the tables alone; `--page` writes the page anew from
`docs/results/*.json`. The table comes last.
"""

import argparse
import ast
import concurrent.futures
import hashlib
import importlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "results.md"
ONE_THREAD = {
    name: "1"
    for name in (
        "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    )
}  # fmt: skip
INTRODUCTION = """# Results

Written by `python tests/benchmarks/results.py --page` from `docs/results/*.json`, which
`python tests/benchmarks/results.py NAME --data=DIRECTORY --work=DIRECTORY` measures. Each run
trains from scratch on one thread of a CPU. Figures are the mean ± standard deviation of the seeds.
The time is of one run, with its evaluation. "Not run": the experiment exists and was not measured.
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("name", nargs="?", choices=names())
    options.add_argument("--data", type=pathlib.Path, help="the folder of the corpora")
    options.add_argument("--work", type=pathlib.Path, help="a folder for the runs, which is kept")
    options.add_argument("--jobs", type=int, default=1, help="runs side by side")
    options.add_argument("--quick", action="store_true", help="a trial of the code")
    options.add_argument("--page", action="store_true", help="write docs/results.md anew")
    options.add_argument("--run", nargs=2, metavar=("VARIANT", "SEED"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.page:
        PAGE.write_text(page(), encoding="utf-8")
        return
    if chosen.name is None or chosen.data is None or chosen.work is None:
        options.error("NAME, --data and --work are needed, or --page")
    if chosen.run:
        run_one(chosen, *chosen.run)
        return
    result = measure(chosen)
    if not chosen.quick:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(result, indent=1, ensure_ascii=False)
        (RESULTS / f"{chosen.name}.json").write_text(text + "\n", encoding="utf-8")
        PAGE.write_text(page(), encoding="utf-8")
    print(section(chosen.name, result))


def names() -> list[str]:
    return sorted(path.stem for path in HERE.glob("experiments/[!_]*.py"))


def load(name):
    """The experiment of `experiments/NAME.py`."""
    sys.path[:0] = [str(HERE), str(ROOT)]
    return importlib.import_module(f"experiments.{name}").experiment


# -- measuring


def measure(chosen) -> dict:
    """Do the runs that have not ended, and collect all -> what `docs/results/NAME.json` holds."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    experiment = load(chosen.name)
    missing = [file for file in experiment.data if not (chosen.data / file).exists()]
    if missing:
        raise SystemExit(f"{chosen.data} must hold {missing}: see --data")
    signed = signature(chosen.name, experiment, chosen.data)
    print(f"{chosen.name}: signature {signed}", flush=True)
    runs = [
        (variant, seed)
        for variant in experiment.runs
        for seed in experiment.seeds_of(variant)[: 1 if chosen.quick else None]
    ]
    with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
        done = list(pool.map(lambda run: in_own_process(chosen, signed, *run), runs))
    figures: dict[str, dict] = {variant: {} for variant in experiment.runs}
    for (variant, seed), outcome in zip(runs, done):
        figures[variant][str(seed)] = outcome
    for file in () if chosen.quick else experiment.files:
        RESULTS.mkdir(exist_ok=True)
        made = [path for run in runs if (path := folder(chosen, *run) / file).exists()]
        if made:  # the picture of the first run that has one
            shutil.copy(made[0], RESULTS / file)
    words = "title task published differs notes".split()
    return {
        **{name: getattr(experiment, name) for name in words},
        "metrics": dict(experiment.metrics),
        "data": {file: digest(chosen.data / file) for file in experiment.data},
        "signature": signed,
        "commit": commit(),
        "versions": versions(),
        "runs": figures,
    }


def folder(chosen, variant, seed) -> pathlib.Path:
    plain = "".join(letter if letter.isalnum() else "-" for letter in variant)
    return chosen.work / f"{chosen.name}{'-quick' * chosen.quick}" / f"{plain}-{seed}"


def in_own_process(chosen, signed, variant, seed) -> dict:
    """The outcome of a run, which is done unless it has ended before."""
    work = folder(chosen, variant, seed)
    if chosen.quick:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    begun = work / "signature"
    if not begun.exists():
        begun.write_text(signed)
    elif begun.read_text() != signed:
        raise SystemExit(
            f"{work} belongs to another version of the experiment, of signature "
            f"{begun.read_text()}. Remove it to run this one, or choose another --work."
        )
    outcome = work / "outcome.json"
    if not outcome.exists():
        print(f"{variant}, seed {seed}", flush=True)
        command = [sys.executable, __file__, chosen.name, f"--data={chosen.data}"]
        command += [f"--work={chosen.work}", "--run", variant, str(seed)]
        subprocess.run(
            command + ["--quick"] * chosen.quick, check=True, env={**os.environ, **ONE_THREAD}
        )
    found = json.loads(outcome.read_text())
    print(f"{variant}, seed {seed}: {found}", flush=True)
    return found


def run_one(chosen, variant, seed) -> None:
    """In the process of a run: train, measure, write the outcome."""
    experiment = load(chosen.name)
    import keras
    from experiments import Run

    work = folder(chosen, variant, seed)
    keras.utils.set_random_seed(int(seed))
    run = Run(int(seed), chosen.data, work, chosen.quick)
    figures = {name: float(value) for name, value in experiment.runs[variant](run).items()}
    if unknown := {*figures} - {*experiment.metrics}:
        raise ValueError(f"metrics must describe all figures. Received: {sorted(unknown)}")
    outcome = {"figures": figures, "steps": run.steps, "cpu_minutes": run.cpu_seconds() / 60}
    part = work / "outcome.part"
    part.write_text(json.dumps(outcome))
    part.rename(work / "outcome.json")


def signature(name, experiment, data) -> str:
    """Of what the figures depend on here: the code of the experiment, and the data."""
    parts = [(HERE / "experiments" / f"{name}.py").read_text(encoding="utf-8")]
    parts += [digest(data / file) for file in experiment.data]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def commit() -> str:
    def git(*command):
        return subprocess.run(
            ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + " with changes" * bool(
            git("status", "--porcelain", "--", "keras_attention", "models", "tests/benchmarks")
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> str:
    import keras
    import tensorflow as tf

    python = ".".join(map(str, sys.version_info[:2]))
    return f"TensorFlow {tf.__version__}, Keras {keras.__version__}, Python {python}"


# -- the page


def page() -> str:
    """docs/results.md: a section for each experiment."""
    parts = [INTRODUCTION]
    for name in names():
        measured = RESULTS / f"{name}.json"
        found = json.loads(measured.read_text(encoding="utf-8")) if measured.exists() else None
        parts.append(section(name, found))
    return "\n".join(parts)


def section(name, result) -> str:
    """Markdown of a model's section."""
    about = f"models/{name}.md"
    link = f" ([about the model]({about}))" if (ROOT / "docs" / about).exists() else ""
    if result is None:
        source = (HERE / "experiments" / f"{name}.py").read_text(encoding="utf-8")
        idea = (ast.get_docstring(ast.parse(source)) or name).splitlines()[0]
        return f"## {name}\n\n{idea}{link} Not run.\n"
    metrics = result["metrics"]
    rows = [["run", *metrics, "seeds", "steps", "CPU minutes"]]
    for variant, seeds in result["runs"].items():
        outcomes = list(seeds.values())
        row = [variant]
        for metric in metrics:
            row.append(spread([o["figures"][metric] for o in outcomes if metric in o["figures"]]))
        row.append(str(len(outcomes)))
        row.append(f"{statistics.mean(o['steps'] for o in outcomes):,.0f}")
        row.append(f"{statistics.mean(o['cpu_minutes'] for o in outcomes):.1f}")
        rows.append(row)
    table = [f"| {' | '.join(row)} |" for row in rows]
    table.insert(1, "|---" * len(rows[0]) + "|")
    data = ", ".join(f"`{file}` {sha}" for file, sha in result["data"].items()) or "made"
    lines = [
        f"## {result['title']}\n",
        f"{result['task']}{link}.\n",
        *table,
        "",
        *(f"- {metric}: {meaning}" for metric, meaning in metrics.items()),
        f"- published: {result['published']}",
        f"- differs: {result['differs']}",
        *([f"- notes: {result['notes']}"] if result["notes"] else []),
        f"- data (SHA-256): {data}",
        f"- `python tests/benchmarks/results.py {name}`, signature {result['signature']}, commit "
        f"{result['commit']}, {result['versions']}",
    ]
    return "\n".join(lines) + "\n"


def spread(values) -> str:
    """Mean and standard deviation, with digits that suit their size.

    >>> spread([62.04, 61.9]), spread([0.95]), spread([])
    ('61.97 ± 0.10', '0.950', '')
    """
    if not values:
        return ""
    mean = statistics.mean(values)
    digits = 3 if abs(mean) < 2 else 2
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{deviation}"


if __name__ == "__main__":
    main()
