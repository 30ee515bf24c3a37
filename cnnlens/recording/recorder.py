"""Streams inputs through a backend into a Recording: any number, in bounded memory, to be gone on with later."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnnlens import janitor
from cnnlens.backend.options import RunOptions
from cnnlens.backend.reductions import check_reduction
from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.network.graph import layers_asked
from cnnlens.network.network import Network
from cnnlens.opening.live import backend_of
from cnnlens.opening.opener import network_given
from cnnlens.progress import Counted, telling
from cnnlens.recording.address import Address, is_address, place
from cnnlens.recording.objects import ObjectWriter
from cnnlens.recording.recording import Recording
from cnnlens.recording.streaming import InputsDigest, plan, run_batches
from cnnlens.recording.writer import RecordingWriter
from cnnlens.text import printable

__all__ = ["record", "record_network", "runs_here"]


@in_one_line()
def record(
    model: Any,
    inputs: Any,
    *,
    backend: str | None = None,
    layers: Iterable[str | int] | None = None,
    device: str = "cpu",
    precision: str = "native",
    out: str | os.PathLike[str] | None = None,
    batch: int | None = None,
    resume: bool = True,
    overwrite: bool = False,
    scale: str = "auto",
    limit: int | None = None,
    allow_nonfinite: bool = False,
    skip_bad: bool = False,
    reduce: str | None = None,
    store: str | None = None,
    engine: str | None = None,
    workers: int | None = None,
    example: Any = None,
    trust_code: bool = False,
    timeout: float | None = None,
    progress: Counted = True,
) -> Recording:
    """Run a network under a backend and keep its feature maps.

    Args:
        model: A path, an open ``Network``, or a live framework model, which then runs in this process.
        inputs: What ``cnnlens.inputs.stream.open_inputs`` takes: paths, arrays, a mapping for several inputs.
        backend: ``keras-jax``, or ``keras-jax@/path/to/python`` for another interpreter; None: for a live model the
            backend that it lives in, for a PyTorch file ``pytorch`` where it is installed, else ``reference``.
        layers: Names or indices of the layers (or names of tensors) wanted; None for all. Inputs are always recorded.
        device: ``cpu``, ``gpu``, ``gpu:1``.
        precision: ``native`` as the framework comes; ``strict``: no reduced precision, deterministic kernels; ``tf32``,
            ``bfloat16`` or ``float16``: computed so, where backend and device have it. Feature maps of float16 are kept
            as such, those of bfloat16 as float32, which holds every number of it.
        out: The recording's folder, best named ``….zarr``; with ``engine`` an address such as
            ``s3://bucket/run.zarr`` too; None for a temporary one that lives as long as the
            ``Recording`` that is returned.
        batch: How many inputs go through at once, and into one chunk; None for about 64 MB of feature maps.
        resume: Go on with a recording of the same run that was cut short, also with other inputs behind those that are
            recorded, which are read again and compared; without it one that is there is refused.
        overwrite: Throw away a recording that is there.
        scale, limit, allow_nonfinite, skip_bad: As ``open_inputs`` takes them.
        reduce: Keep less of every map, made on the device: ``mean`` or ``max`` over the spatial axes, ``moments`` (mean
            and variance), ``topk:K`` (the K largest values and where they are), ``down:2`` (averages of 2 x 2). What is
            reduced cannot be audited by ``check``.
        store: ``float16`` keeps the values as float16, which ``check`` cannot audit either.
        engine: ``ray`` runs the batches on workers, each with a backend of its own, of the cluster that the variable
            ``RAY_ADDRESS`` names, else of one on this machine that ends with the call. What it records is what one
            machine would, as far as the machines are alike.
        workers: With ``engine``: how many; None for one a GPU, or on CPUs one a machine.
        example: For a live PyTorch module, the inputs that it is exported with, as ``cnnlens.open`` takes them; None
            takes the first of ``inputs``, which must be arrays then, in the module's own axes.
        trust_code: Run layers whose code comes with the file. Only for files of your own.
        timeout: Seconds that the backend may be silent; None for 600.
        progress: True shows how far it is where somebody waits: a bar in a terminal (on standard error), one in a
            notebook. None or False shows nothing. Or what is called with the inputs recorded so far, and all.

    Returns:
        The complete recording.

    Raises:
        CnnlensError: inputs that do not fit, another run's recording in the way, a full disk, a backend that refuses,
            crashes or hangs; one line each. What was recorded by then stays, and the same call goes on from there.

    >>> import cnnlens.sample
    >>> recording = cnnlens.record(
    ...     cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backend="reference", layers=["conv2d"], out="run.zarr"
    ... )
    >>> recording
    <Recording run.zarr: 2 tensors of 10 inputs, reference on cpu>
    >>> list(recording)
    ['input_layer', 'conv2d']
    >>> recording["conv2d"][:2].shape  # canonical (N, C, H, W), read when it is sliced
    (2, 32, 28, 28)
    >>> cnnlens.record(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backend="reference", layers=["conv"])
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: ...: no layer is named 'conv'; did you mean 'conv2d' or 'conv2d_1'?
    """
    network, live = network_given(model, inputs, example)
    with telling(progress, "inputs") as tell:
        return record_network(
            network,
            inputs,
            RunOptions(
                device, precision, batch, timeout, trust_code, scale, limit, allow_nonfinite, skip_bad, engine, workers
            ),
            backend=backend,
            live=live,
            layers=layers,
            out=out,
            resume=resume,
            overwrite=overwrite,
            reduce=reduce,
            store=store,
            progress=tell,
        )


def record_network(
    network: Network,
    inputs: Any,
    options: RunOptions,
    *,
    backend: str | None = None,
    live: Any = None,
    layers: Iterable[str | int] | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    overwrite: bool = False,
    reduce: str | None = None,
    store: str | None = None,
    progress: Callable[[int, int], object] | None = None,
    durable: bool = True,
) -> Recording:
    """Run an open network, as ``record`` runs what it has opened; everything else is as ``record`` takes it.

    Args:
        durable: Whether the recording has to outlive this process, and so a power failure.
    """
    if out is not None and is_address(out) and options.engine is None:
        raise CnnlensError(
            f"{printable(out, 300)}: an address is written to by an engine: give engine ray, or a folder"
        )
    if reduce is not None:
        check_reduction(reduce)
    if store not in (None, "float16"):
        raise CnnlensError(f"store '{printable(store)}': float16 was expected, or nothing for what the backend gives")
    if store is not None and reduce is not None and reduce.startswith("topk"):
        raise CnnlensError(f"{reduce} keeps positions, which float16 cannot count; leave float16 out")
    what = plan(network, inputs, options, backend=backend, live=live, layers=layers_asked(layers))
    # One whose axes the file does not say may have some: it counts as reduced, whatever there was to reduce.
    shapes = {name: network.canonical_shape(network.tensors[name]) for name in what.computed}
    by_input = [name for name in what.computed if network.batch_axis(network.tensors[name]) == 0]
    reduced = tuple(name for name in by_input if (shape := shapes[name]) is None or len(shape) > 2)
    path = Path(tempfile.mkdtemp(prefix="cnnlens-")) if out is None else place(out)
    try:
        if isinstance(path, Path) and out is None:
            janitor.watch(path)
        with ExitStack() as stack:
            runner = what.start(stack, progress=progress)
            description = replace(
                what.description(runner), reduction=reduce, reduced=reduced if reduce else (), store=store
            )
            if isinstance(path, Address):
                folder = stack.enter_context(janitor.temporary_folder())
                writer = ObjectWriter(path, folder, description, resume=resume, overwrite=overwrite)
            else:
                writer = RecordingWriter(
                    path, description, resume=resume, overwrite=overwrite, durable=durable and out is not None
                )
            stack.callback(writer.close)
            stack.callback(runner.release)  # first of all, so that nothing writes any more when the lock goes
            digest = InputsDigest(what.stream.names)
            run_batches(what.stream, runner, writer, progress, digest)
            writer.finish(digest.hexdigest(), runner.notes)
        recording = Recording.open(path)
    except BaseException:
        if isinstance(path, Path) and out is None:
            _remove(path)
        raise
    if isinstance(path, Path) and out is None:
        weakref.finalize(recording, _remove, path)
    return recording


def runs_here(live: Any, backend: str) -> bool:
    """Tell whether a live model runs under ``backend`` in this very process."""
    return live is not None and backend == backend_of(live)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    janitor.forget(path)
