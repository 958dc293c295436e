"""Does a served export answer as `--mode=infer` does?

    python tests/benchmarks/served_as_inferred.py --data=CHATTERBOT [--export_dir=E --model_dir=M]
    python tests/benchmarks/served_as_inferred.py --data=COUPLET --task=couplet

Asks the first turns of DATA, a folder of .tsv.gz files, one after the other in `--mode=infer`, and
many at a time over REST, so that they share batches. Without --model_dir a model is trained for
some steps first. A line may get another reply only where the two best scores differ by less than
1e-5. The figure comes last; the exit code is 1 if another line differs.
"""

import argparse
import concurrent.futures
import gzip
import pathlib
import subprocess
import sys
import tempfile

from serve_load import TIE, export, program, serving

COLUMN = {"chat": 1, "couplet": 0}  # of the first turn


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=pathlib.Path, required=True)
    options.add_argument("--task", choices=list(COLUMN), default="chat")
    options.add_argument("--model_dir", help="default: of a model that is trained now")
    options.add_argument("--export_dir", help="of that model; default: exported now")
    options.add_argument("--lines", type=int, default=1000)
    options.add_argument("--steps", type=int, default=300, help="of the training")
    options = options.parse_args()
    lines = read(options.data, COLUMN[options.task], options.lines)
    with tempfile.TemporaryDirectory() as folder:
        model, exported = options.model_dir, options.export_dir
        if exported is None:
            model = model or f"{folder}/model"
            exported = export(folder, model, options.steps, f"--task={options.task}")
        inferred = infer(model, lines)
        with serving(exported, 32) as client, concurrent.futures.ThreadPoolExecutor(16) as clients:
            served = list(clients.map(lambda line: client.predict({"text": [line]}), lines))
    same, tied, other = 0, 0, []
    for line, wanted, answer in zip(lines, inferred, served):
        (replies,), (scores,) = answer["replies"], answer["scores"]
        if replies[0].replace("\n", " ") == wanted:
            same += 1
        elif len(scores) > 1 and scores[0] - scores[1] < TIE:
            tied += 1
        else:
            other.append((line, wanted, replies[0]))
    for line, wanted, reply in other:
        print(f"{line!r}: inferred {wanted!r}, served {reply!r}")
    empty = sum(not reply for reply in inferred)
    print(
        f"{options.task}, {len(lines)} lines: {same} the same ({empty} of them without an answer), "
        f"{tied} others that tie, {len(other)} that do not"
    )
    sys.exit(1 if other else 0)


def read(folder, column, count):
    """The first `count` different turns."""
    found = {}
    for path in sorted(folder.glob("*.tsv.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                found[line.rstrip("\n").split("\t")[column]] = None
                if len(found) == count:
                    return list(found)
    sys.exit(f"{folder} has {len(found)} lines, fewer than {count}")


def infer(model, lines):
    process = program(
        "--mode=infer", f"--model_dir={model}", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    replies = process.communicate("".join(f"{line}\n" for line in lines))[0].split("\n")[:-1]
    if len(replies) != len(lines):
        sys.exit(f"infer gave {len(replies)} replies to {len(lines)} lines")
    return replies


if __name__ == "__main__":
    main()
