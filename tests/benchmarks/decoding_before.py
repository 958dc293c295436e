"""Beam search of this tree beside that of an earlier one: is decoding as fast as it was?

    git worktree add --detach /tmp/before COMMIT
    python tests/benchmarks/decoding_before.py --before /tmp/before [--quick] [--threads 1]

The searches of `rnn_beam.py` and `transformer_beam.py`, written once and run with keras_attention
and models of either tree, in turn in every round: same weights, same inputs, and the answers are
compared. CPU time with one thread, wall time with two. In a mode the figure is the time of this
tree over that of the earlier one, the median over the rounds.
"""

import argparse
import sys

import rnn_beam
import transformer_beam
from alternate import (
    CLOCKS,
    MODES,
    OURS,
    Figure,
    Program,
    Side,
    compare,
    our_sides,
    print_figures,
    ratio,
    same_answers,
    table,
)

BEFORE = "before, "


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", required=True, help="a checked out tree")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--threads", nargs="+", type=int, choices=CLOCKS, default=list(CLOCKS))
    parser.add_argument("--quick", action="store_true", help="one size of each, few rounds")
    options = parser.parse_args()
    figures = []
    for script, what, settings, arrays, work in cases(options.quick):
        sides = pairs(script, options.before, options.modes)
        rounds = 5 if options.quick else 11
        results = compare(sides, settings, arrays, rounds, seconds=0.3, threads=options.threads)
        table(f"Beam search, {what}", "answers", work, results, same_answers)
        for count, timings in results.items():
            for mode in options.modes:
                found = ratio(timings[OURS + mode], timings[BEFORE + mode])
                figures.append(Figure(f"{what}, {count}T, {mode}", found, "<=", 1.03))
    print_figures(figures)


def cases(quick):
    """(script, what, settings, arrays, FLOPs) of every search."""
    few = 1 if quick else None
    for vocabulary, batch, steps, width in rnn_beam.SIZES[:few]:
        settings, arrays, _, work = rnn_beam.case(vocabulary, batch, steps, width)
        what = f"2 LSTM, Bahdanau; V={vocabulary} B={batch} L={steps} K={width}"
        yield "rnn_ours.py", what, settings, arrays, work
    for vocabulary, batch in transformer_beam.SIZES[:few]:
        settings, arrays, _, work = transformer_beam.search(vocabulary, batch)
        what = f"Transformer 6+6; V={vocabulary} B={batch}"
        yield "transformer_ours.py", what, settings, arrays, work


def pairs(script, tree, modes) -> list[Side]:
    """Sides of both trees in each mode, the earlier one first."""
    before, now = Program(sys.executable, script, tree=tree), Program(sys.executable, script)
    sides = []
    for mode in modes:
        sides.append(Side(BEFORE + mode, before, "beam", MODES[mode]))
        sides += our_sides(now, "beam", {mode: MODES[mode]})
    return sides


if __name__ == "__main__":
    main()
