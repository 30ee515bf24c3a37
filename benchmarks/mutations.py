"""Changes one line of cnnlens at a time and counts how often a test notices: the tests' own test.

What proofs rest on (``ROOMS``) is changed by a list of operators over the syntax tree: comparisons, arithmetic,
conditions, constants, slices, what is returned, statements left out. Not changed: texts, names of types, imports, what
is in ``raise``, ``assert``, ``strict=`` or a decorator, and whether a bound that is a float belongs to what it bounds,
for no number that is computed is it. Lines are ranked by a hash of their text: another line elsewhere changes nothing
in the sample.

The tools on PyPI were looked at: mutmut brings 8 packages, a terminal interface among them, and puts a switch into each
function, which the tests that read our own source would see; cosmic-ray brings 20, an SQL toolkit and an HTTP client
among them.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import hashlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.harness import RESULTS, ROOT, Options, Report, keep_figures

RESULT = RESULTS / "mutations-cpu.json"
SEED = 9
MUTANTS = 60
GOAL = 0.9


@dataclass(frozen=True)
class Room:
    """Names what is mutated (patterns below ``cnnlens/``) and which tests promise something about it."""

    sources: Sequence[str]
    tests: Sequence[str]
    marks: str = "not slow"


ROOMS: Mapping[str, Room] = {
    "noise": Room(
        (
            "checking/noise/*.py",
            "checking/narrower.py",
            "checking/verdict.py",
            "checking/auditing.py",
            "checking/evidence.py",
        ),
        ("tests/checking",),
        "not framework",
    ),
    "faults": Room(
        ("checking/faults/*.py",),
        tuple(f"tests/checking/test_{name}.py" for name in ("faults", "faults_layers", "faults_rivals", "judgement")),
    ),
    "layout": Room(("layout/*.py",), ("tests/layout",), "not framework"),
    "differing": Room(("differing/*.py", "differing/hypotheses/*.py"), ("tests/differing",)),
    "arithmetic": Room(
        ("reference/*.py", "reference/arithmetic/*.py", "reference/keras/*.py", "reference/bare/*.py"),
        tuple(
            f"tests/reference/test_{name}.py"
            for name in ("executor", "formulas", "layers", "properties", "recurrent", "spellings")
        ),
        "",
    ),
    "aten": Room(
        ("reference/aten/*.py",),
        tuple(f"tests/reference/test_{name}.py" for name in ("aten", "aten_exports", "aten_sweeps")),
        "",
    ),
    "writer": Room(("recording/writer.py",), ("tests/recording",)),
}

# What only puts sentences together; tests/test_examples.py and the tests of wording read those.
_SENTENCES = ("listing.py", "wording.py")


@dataclass(frozen=True)
class Equivalent:
    """Argues that no test can notice a mutation: the code does the same, or what differs is nobody's promise."""

    file: str
    line: str
    after: str
    why: str


EQUIVALENT: Sequence[Equivalent] = (
    Equivalent(
        "cnnlens/checking/noise/tally.py",
        "relative = np.where(counted & np.isfinite(output), ratios(output, prediction.scale, self.terms, 1e6), 0.0)",
        "100000.0",
        "an end that no output comes near: the scale of noise is at least about the output's own size",
    ),
    Equivalent(
        "cnnlens/layout/lookup.py",
        'pattern = parse(stored, spatial, ("Q", order) if order else ("", ""), row.fill.get(framework))',
        "('Q', order)",
        "a pattern keeps gates only where it has the letter Q, and every line of the table with a Q names its gates",
    ),
    Equivalent(
        "cnnlens/reference/arithmetic/patches.py",
        "_BLOCK_BYTES = 640 << 10",
        "641",
        "how much is held at once; the numbers are the same",
    ),
    Equivalent(
        "cnnlens/reference/arithmetic/patches.py",
        "_FEW_CHANNELS = 4",
        "5",
        "which of two ways is quicker; both give the sum",
    ),
    Equivalent(
        "cnnlens/reference/keras/normalization.py",
        "repeat = next((n for n in (64, 32, 16, 8, 4, 2) if rows % n == 0 and length * n <= 1 << 12), 1)",
        "63",
        "how many rows are done at once; the numbers are the same",
    ),
    Equivalent("cnnlens/reference/executor.py", "_CHUNK_MAX = 256", "255", "how much is computed at once"),
    Equivalent(
        "cnnlens/reference/arithmetic/special.py",
        "near = _polynomial(small, np.minimum(square, x.dtype.type(1.0)))",
        "2.0",
        "beyond 1 the other half is taken, and the bound only keeps this one from overflowing",
    ),
    Equivalent(
        "cnnlens/reference/aten/resizing.py",
        'return layer(UpSampling(f"UpSampling{rank}D", config, (3,)), (args.tensor(),))',
        "2",
        "which Keras it was tells names of activations apart, and it has none",
    ),
    Equivalent(
        "cnnlens/differing/hypotheses/kinship.py",
        "step = -(-x.size // _PART)",
        "-x.size // _PART",
        "as many numbers of both, from the other end",
    ),
    Equivalent(
        "cnnlens/differing/hypotheses/layouts.py",
        "yield (cause, other), rank + extra + 1, (*moves, *further)",
        "2",
        "two mistakes stand behind any one either way, unless more than eight maps may stand in front",
    ),
    Equivalent(
        "cnnlens/differing/examination.py",
        "if way.natural:",
        "False",
        "natural ways are the first to be tried, and the first that fits is the answer: the rest need not be tried",
    ),
    Equivalent("cnnlens/differing/trials.py", "_SHOWN = 8", "7", "how much of an order is shown is nobody's promise"),
    Equivalent(
        "cnnlens/checking/noise/case.py", "_BLOCK = 1 << 20", "21", "how much is held at once; the numbers are the same"
    ),
    Equivalent(
        "cnnlens/checking/noise/linear.py",
        'return bool(getattr(operation, "use_bias", True))',
        "False",
        "every linear operation says whether it has a bias; the default is for the type checker",
    ),
    Equivalent(
        "cnnlens/layout/crossing.py",
        "return tuple(int(number) for number in place[0]), view",
        "-1",
        "one element is marked, so that one place is found: the first is the last",
    ),
    Equivalent(
        "cnnlens/checking/faults/kernels.py",
        "seen = {long, *(tuple(j if a == i else i if a == j else a for a in long) for i, j in swaps)}",
        "j",
        "the exchange of two spatial axes is then tried twice, and the name that _taps gave it first stands",
    ),
    Equivalent(
        "cnnlens/recording/writer.py",
        "if not path.is_file() or path.is_symlink() or path.stat().st_size != size:",
        "not path.is_file() or path.is_symlink()",
        "a file of another size has another CRC-32, which is asked next; the size only saves reading it",
    ),
    Equivalent(
        "cnnlens/recording/writer.py",
        'self._sync = ThreadPoolExecutor(1, "cnnlens-sync") if durable else None',
        "2",
        "one task at a time is given to it: the next only when the last is done",
    ),
    Equivalent(
        "cnnlens/recording/writer.py",
        "self._handle = -1  # the parts are the other's",
        "2",
        "any negative number says that no file is open",
    ),
    Equivalent(
        "cnnlens/recording/writer.py", "self._handle = -1", "2", "any negative number says that no file is open"
    ),
    Equivalent(
        "cnnlens/checking/noise/prediction.py",
        "return result.astype(case.output.dtype, copy=False)",
        "True",
        "a copy has the same numbers",
    ),
)


@dataclass(frozen=True)
class Mutation:
    """Names one change: where, what stood there and what stands there now."""

    file: str
    line: int
    text: str
    start: int
    end: int
    before: str
    after: str
    once: bool = False  # whether the line is run on import, or what it gives is kept: the first test alone is known

    @property
    def shown(self) -> str:
        inside = "" if self.before == self.text else f" in '{self.text}'"
        return f"{self.file}:{self.line}: {self.before} -> {self.after}{inside}"

    def made(self, source: bytes) -> bytes:
        """Give the file with the change in it."""
        statement = self.after == "pass" or self.after.startswith("return ")
        after = self.after if statement else f"({self.after})"
        return source[: self.start] + after.encode() + source[self.end :]


@dataclass
class Score:
    """Counts what became of a room's mutants."""

    killed: int = 0
    timeout: int = 0
    equivalent: int = 0
    survived: list[str] = field(default_factory=list[str])

    @property
    def share(self) -> float:
        noticed = self.killed + self.timeout
        return noticed / max(noticed + len(self.survived), 1)


# -- what is changed -------------------------------------------------------------------------------------------------

_COMPARISONS: Mapping[type[ast.cmpop], Sequence[type[ast.cmpop]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_PAIRS = (
    *(("min", "max"), ("minimum", "maximum"), ("any", "all"), ("floor", "ceil"), ("argmin", "argmax")),
    *(("nanmin", "nanmax"), ("sum", "mean"), ("sqrt", "square"), ("zeros_like", "ones_like")),
)
_EXCHANGED = {**dict(_PAIRS), **{second: first for first, second in _PAIRS}}


def mutations(path: Path) -> list[Mutation]:
    """List every change of a file, in the order of its lines."""
    source = path.read_bytes()
    tree = ast.parse(source)
    relative = path.relative_to(ROOT).as_posix()
    module = importlib.import_module(relative.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    again = set[int]()  # lines that every call runs
    kept = set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            last = node.end_lineno or node.lineno
            again.update(range(node.body[0].lineno, last + 1))
            if any("cache" in ast.unparse(one) for one in node.decorator_list):
                kept.update(range(node.lineno, last + 1))
    found: dict[tuple[int, int, str], Mutation] = {}
    for node, replaced in _changes(tree, vars(module)):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        after = ast.unparse(replaced)
        text = lines[node.lineno - 1].decode().strip()
        once = node.lineno in kept or node.lineno not in again
        change = Mutation(relative, node.lineno, text, start, end, ast.unparse(node), after, once)
        if change.after != change.before:
            found.setdefault((start, end, after), change)
    return sorted(found.values(), key=lambda each: (each.start, each.end, each.after))


def _changes(tree: ast.AST, names: Mapping[str, Any]) -> Iterator[tuple[Any, ast.AST]]:
    """Give nodes with what could stand in their place."""
    for node in _significant(tree):
        match node:
            case ast.Compare(ops=[op]):
                bound = any(isinstance(_value(side, names), float) for side in (node.left, node.comparators[0]))
                for other in _COMPARISONS[type(op)]:
                    if not (bound and {type(op), other} in ({ast.Lt, ast.LtE}, {ast.Gt, ast.GtE})):
                        yield node, _with(node, ops=[other()])
            case ast.Compare():
                for place, op in enumerate(node.ops):
                    yield (
                        node,
                        _with(node, ops=[*node.ops[:place], _COMPARISONS[type(op)][0](), *node.ops[place + 1 :]]),
                    )
            case ast.BinOp(op=op) if type(op) in _OPERATORS:
                if not any(_is_text(side, names) for side in (node.left, node.right)):
                    yield node, _with(node, op=_OPERATORS[type(op)]())
            case ast.BoolOp(op=op):
                yield node, _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
                for place in range(len(node.values)):
                    rest = [*node.values[:place], *node.values[place + 1 :]]
                    yield node, rest[0] if len(rest) == 1 else _with(node, values=rest)
            case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub()):
                yield node, node.operand
            case ast.Constant(value=bool()):
                yield node, ast.Constant(not node.value)
            case ast.Constant(value=int()):
                yield from ((node, ast.Constant(node.value + step)) for step in (1, -1))
            case ast.Constant(value=float()):
                yield from ((node, ast.Constant(value)) for value in (node.value * 2, node.value / 10))
            case ast.Call(func=ast.Name(id=name)) if name in _EXCHANGED:
                yield node, _with(node, func=ast.Name(_EXCHANGED[name]))
            case ast.Call(func=ast.Attribute(attr=name)) if name in _EXCHANGED:
                yield node, _with(node, func=_with(node.func, attr=_EXCHANGED[name]))
            case ast.IfExp():
                yield from ((node, one) for one in (node.body, node.orelse))
            case ast.If() | ast.While():
                yield node.test, ast.Constant(False)
                if isinstance(node, ast.If):
                    yield node.test, ast.Constant(True)
            case ast.comprehension():
                yield from ((test, ast.Constant(True)) for test in node.ifs)
            case ast.Subscript(slice=ast.Slice() as cut):
                yield from ((node, _with(node, slice=other)) for other in _slices(cut))
            case ast.Return(value=ast.Call(args=[ast.Name() | ast.Attribute() as argument, *_])):
                yield node, ast.Return(argument)
            case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Continue() | ast.Break():
                yield node, ast.Pass()
            case _:
                pass


def _slices(cut: ast.Slice) -> Iterator[ast.Slice]:
    if cut.lower is not None:
        yield _with(cut, lower=None)
        yield _with(cut, lower=ast.BinOp(cut.lower, ast.Add(), ast.Constant(1)))
    if cut.upper is not None:
        yield _with(cut, upper=None)
        yield _with(cut, upper=ast.BinOp(cut.upper, ast.Sub(), ast.Constant(1)))
    if cut.step is not None:
        yield _with(cut, step=None)


def _significant(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what computes: no texts, types, imports, decorators or errors."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.Import | ast.ImportFrom | ast.Raise | ast.Assert | ast.JoinedStr):
                continue
            if isinstance(child, ast.Assign) and ast.unparse(child.targets[0]) == "__all__":
                continue
            if isinstance(child, ast.Call) and ast.unparse(child.func) in ("cast", "TypeVar", "printable"):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.keyword) and child.arg == "strict":
                continue  # of zip: an assertion
            if isinstance(child, ast.UnaryOp) and isinstance(node, ast.Call) and "reshape" in ast.unparse(node.func):
                continue  # any negative size is what is left
            if isinstance(child, ast.Call) and ast.unparse(child.func) == "isinstance":
                child = child.args[0]
            if isinstance(child, ast.AST):
                yield from _significant(child)


def _with(node: Any, **changes: Any) -> Any:
    other = copy.copy(node)
    for name, value in changes.items():
        setattr(other, name, value)
    return ast.fix_missing_locations(other)


def _is_text(node: ast.AST, names: Mapping[str, Any]) -> bool:
    """Whether a side of ``+`` is a text, or one of ``/`` a path: any other operator is an error there."""
    if isinstance(node, ast.BinOp):
        return _is_text(node.left, names) or _is_text(node.right, names)
    return isinstance(node, ast.JoinedStr) or "path" in ast.unparse(node) or isinstance(_value(node, names), str)


def _value(node: ast.AST, names: Mapping[str, Any]) -> Any:
    """What a bound is, where that is written down: a number, a name of the module, a product with one."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return names.get(node.id)
        case ast.UnaryOp():
            return _value(node.operand, names)
        case ast.IfExp():
            return _value(node.body, names)
        case ast.BinOp():
            return next(
                (one for one in (_value(node.left, names), _value(node.right, names)) if isinstance(one, float)), 0
            )
        case _:
            return None


def sample(room: Room, count: int) -> list[Mutation]:
    """Pick as many lines as wanted, and one change of each."""
    by_line: dict[tuple[str, int], list[Mutation]] = defaultdict(list)
    for path in sorted({path for pattern in room.sources for path in (ROOT / "cnnlens").glob(pattern)}):
        if path.name not in _SENTENCES:
            for one in mutations(path):
                by_line[one.file, one.line].append(one)
    ranked: list[tuple[str, list[Mutation]]] = []
    seen: dict[str, int] = defaultdict(int)
    for (file, _), changes in by_line.items():
        key = f"{file} {changes[0].text}"
        seen[key] += 1
        ranked.append((_rank(f"{key} {seen[key]}"), changes))
    ranked.sort(key=lambda each: each[0])
    return [min(changes, key=lambda one: _rank(f"{one.before} -> {one.after}")) for _, changes in ranked[:count]]


def _rank(text: str) -> str:
    return hashlib.sha256(f"{SEED} {text}".encode()).hexdigest()


# -- what notices ----------------------------------------------------------------------------------------------------


def pytest_runtest_setup(item: Any) -> None:
    """Tell coverage whose lines come next, in a measured run, of which this module is a plugin."""
    _next(f"{item.nodeid}|setup")


def pytest_runtest_call(item: Any) -> None:
    _next(f"{item.nodeid}|run")


def _next(context: str) -> None:
    from coverage import Coverage

    measuring = Coverage.current()
    assert measuring is not None
    measuring.switch_context(context)


@dataclass
class Tests:
    """Says how long each test takes and which run a line: ``data`` is coverage's, of the tree in ``folder``."""

    seconds: dict[str, float]
    data: Any
    folder: Path

    def of(self, mutation: Mutation) -> list[str]:
        """The tests that run the line, the quickest first: all of a file whose fixture does, and every one of the room
        where the first one alone is known, since the line is run on import or keeps what it found."""
        contexts = self.data.contexts_by_lineno(str(self.folder / mutation.file)).get(mutation.line, [])
        if mutation.once or "" in contexts:
            return self.ordered()
        found: set[str] = set()
        for context in contexts:
            test, _, phase = context.rpartition("|")
            if phase == "run":
                found.add(test)
            else:
                file = test.partition("::")[0]
                found.update(one for one in self.seconds if one.startswith(f"{file}::"))
        return self.ordered(found & self.seconds.keys())

    def ordered(self, tests: set[str] | None = None) -> list[str]:
        return sorted(self.seconds if tests is None else tests, key=lambda one: (self.seconds[one], one))


_DURATION = re.compile(r"^(\d+\.\d+)s (?:call|setup|teardown) +(\S.*)$", re.MULTILINE)


def _tree(folder: Path) -> Path:
    """A copy of what the tests need."""
    ignored = shutil.ignore_patterns("__pycache__", ".*", "results")
    for name in ("cnnlens", "backends", "benchmarks", "tests", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, folder / path.name)
    return folder


def _pytest(
    folder: Path, arguments: Sequence[str], limit: float, measuring: Sequence[str] = ()
) -> tuple[int | None, str]:
    """The exit code, None where it took too long, and what was printed."""
    command = [
        sys.executable,
        *measuring,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "--hypothesis-seed=0",
    ]
    paths = os.pathsep.join((str(folder), str(folder / "backends")))
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            # What a framework makes for the tests is made once, by a run of the unchanged code.
            env={**os.environ, "PYTHONPATH": paths, "CNNLENS_ONCE": str(folder.parent)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return code, output.read()


def _measured(room: Room, folder: Path) -> Tests:
    """Run a room's tests once, unchanged."""
    from coverage import CoverageData

    settings = folder / "mutations.coveragerc"
    settings.write_text("[run]\nsource_pkgs = cnnlens\n")
    data = folder / f"mutations.{hashlib.sha256(repr((room.tests, room.marks)).encode()).hexdigest()[:8]}.coverage"
    measuring = ["-m", "coverage", "run", f"--rcfile={settings}", f"--data-file={data}"]
    arguments = ["-p", "benchmarks.mutations", "-p", "no:cov", "--durations=0", "--durations-min=0", "-vv"]
    code, output = _pytest(folder, [*arguments, "-m", room.marks, *room.tests], 3600, measuring)
    if code != 0:
        raise SystemExit(f"the tests fail before anything is changed:\n{output[-3000:]}")
    seconds: dict[str, float] = defaultdict(float)
    for duration, test in _DURATION.findall(output):
        seconds[test] += float(duration)
    found = CoverageData(str(data))
    found.read()
    return Tests(dict(seconds), found, folder)


def _tried(mutation: Mutation, room: Room, tests: Tests, folder: Path, tick: int) -> str:
    """Change the line in a copy of the tree, run the tests that run it, and mend it."""
    path = folder / mutation.file
    original = path.read_bytes()
    try:
        path.write_bytes(mutation.made(original))
        os.utime(path, (tick, tick))  # two changes within a second are one to the cache of compiled modules
        chosen = tests.of(mutation)
        if not chosen:
            return "survived"
        listed = folder / "mutations.tests"
        listed.write_text("".join(f"{one}\n" for one in chosen))
        limit = 60 + 10 * sum(tests.seconds[one] for one in chosen)
        code, _ = _pytest(folder, ["-x", "-m", room.marks, f"@{listed}"], limit)
        if code in (4, 5):  # the change renamed or removed a test: ask the files
            code, _ = _pytest(folder, ["-x", "-m", room.marks, *room.tests], limit)
        return "timeout" if code is None else "killed" if code else "survived"
    finally:
        path.write_bytes(original)
        os.utime(path, (tick + 1, tick + 1))


def _is_equivalent(mutation: Mutation) -> bool:
    key = (mutation.file, mutation.text, mutation.after)
    return any((one.file, one.line, one.after) == key for one in EQUIVALENT)


# -- the command -----------------------------------------------------------------------------------------------------


def run(options: Options, report: Report) -> None:
    """Mutate rooms, print each survivor, and keep the scores."""
    scores: dict[str, Score] = {}
    count = options.mutants or (2 if options.small else MUTANTS)
    measured: dict[Any, Tests] = {}
    began = time.monotonic()
    jobs = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="cnnlens-mutations-") as place:
        folders: SimpleQueue[Path] = SimpleQueue()
        first = _tree(Path(place) / "0")
        for number in range(jobs):
            folders.put(first if number == 0 else _tree(Path(place) / str(number)))
        chosen = {name: sample(ROOMS[name], count) for name in options.names or ROOMS}  # of what was copied
        for name, changes in chosen.items():
            room, score = ROOMS[name], scores.setdefault(name, Score())
            key = (room.tests, room.marks)
            tests = measured[key] = measured.get(key) or _measured(room, first)
            print(f"{name}: {len(tests.seconds)} tests, {sum(tests.seconds.values()):.0f} s", flush=True)
            ticks = iter(range(1, 1 << 30, 2))

            def one(mutation: Mutation, room: Room = room, tests: Tests = tests, ticks: Any = ticks) -> tuple[Any, str]:
                if _is_equivalent(mutation):
                    return mutation, "equivalent"
                folder = folders.get()
                try:
                    return mutation, _tried(mutation, room, tests, folder, next(ticks))
                finally:
                    folders.put(folder)

            with ThreadPoolExecutor(jobs) as pool:
                for mutation, what in pool.map(one, changes):
                    if what == "survived":
                        score.survived.append(mutation.shown)
                    else:
                        setattr(score, what, getattr(score, what) + 1)
                    if what in ("survived", "timeout"):
                        print(f"  {what}: {mutation.shown}", flush=True)
            print(
                f"{name}: {score.share:.0%} noticed ({score.killed} killed, {score.timeout} timeouts, "
                f"{len(score.survived)} survived, {score.equivalent} equivalent), {time.monotonic() - began:.0f} s",
                flush=True,
            )
    report.found = {
        name: {
            "noticed": round(score.share, 3), "mutants": count, "seed": SEED,
            **{what: getattr(score, what) for what in ("killed", "timeout", "equivalent", "survived")},
        }
        for name, score in scores.items()
    }  # fmt: skip
    report.good &= all(score.share >= GOAL for score in scores.values())
    if not options.small:
        keep_figures(RESULT, report.found, ROOMS)
