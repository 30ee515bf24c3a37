"""Damages honest files of every format that cnnlens opens, and asks what came of each: a result or one line.

``python -m benchmarks fuzz [FORMAT …] [--mutants N] [--seed S]``. Each mutant is opened, summarised and verified in a
process that is watched: it may take 2 s of the processor and 10 times the reading of its bytes, 256 MiB (a picture 1.5
GiB) and 4 times them, and open no other file, write, execute, start or connect to nothing
(``tests/support/fuzzing.py``). A kind of failure is kept once, as small as it becomes, in ``tests/files/corpus``, which
the tests run for ever after.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from benchmarks.harness import RESULTS, Options, Report, keep_figures

RESULT = RESULTS / "fuzz-cpu.json"
MUTANTS = 10_000


def formats() -> tuple[str, ...]:
    """Name the formats that are fuzzed."""
    from tests.support.honest_files import SEEDS

    return (*SEEDS, "pt2")


def run(options: Options, report: Report) -> None:
    """Fuzz some formats, or all; print what failed, and keep it.

    Found of each format: how many mutants opened, were refused and failed, each kind of failure, the dearest one.
    """
    from tests.support.fuzzing import fuzz, keep, small_case
    from tests.support.honest_files import seeds

    count, seed = options.mutants or (20 if options.small else MUTANTS), options.seed
    report.found = tried = dict[str, Any]()
    for name in options.names or formats():
        began = time.monotonic()
        given = {name: seeds(name, by_torch=True)}
        score = fuzz(given, count, seed)[name]
        kinds = Counter(failure.kind for failure in score.failures)
        for kind in kinds:
            failure = next(one for one in score.failures if one.kind == kind)
            print(f"  {kinds[kind]:,} times, first {failure.number}: {failure.why}", flush=True)
            print(f"  kept in {keep(small_case(given, failure, seed), failure)}", flush=True)
        took = round(time.monotonic() - began)
        tried[name] = {
            "mutants": count, "seed": seed, "honest_files": len(given[name]), "opened": score.opened,
            "refused": score.refused, "failed": len(score.failures), "kinds": dict(kinds),
            "dearest_cpu_seconds": round(score.seconds, 2), "dearest_megabytes": round(score.megabytes),
            "seconds": took,
        }  # fmt: skip
        print(
            f"{name}: {count:,} mutants in {took} s: {score.opened:,} opened, {score.refused:,} refused in one line, "
            f"{len(score.failures):,} failed; the dearest took {score.seconds:.2f} s",
            flush=True,
        )
        report.good &= not score.failures
        if not options.small:
            keep_figures(RESULT, tried, formats())
