"""What torch.export really writes, in its three dialects: every operator of whole models is computed and audited.

Each model is exported with a dynamic batch, as it is and after both decompositions; PyTorch runs the graph in float32,
and every call in it is audited by itself from what came in and what went out.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from tests.support.aten_calls import AtenCall, fill  # noqa: E402


class Images(nn.Module):
    """Convolutions, normalisations, pooling, padding, interpolation: what a convolutional network is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, 2, 1, padding_mode="reflect")
        self.same = nn.Conv2d(12, 12, 3, padding="same", groups=3, dilation=2, bias=False)
        self.norms = nn.Sequential(nn.BatchNorm2d(12), nn.InstanceNorm2d(12, affine=True), nn.GroupNorm(4, 12))
        self.tracked = nn.InstanceNorm2d(12, track_running_stats=True)
        self.up = nn.ConvTranspose2d(12, 8, 3, 2, 1, 1, groups=2)
        self.local = nn.LocalResponseNorm(3)
        self.slopes = nn.PReLU(8)
        self.pools = nn.Sequential(nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(3, 1, 1), nn.LPPool2d(2, 2))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(8 * 12, 10), nn.Softmax(1))

    def forward(self, x: Any) -> Any:
        x = self.tracked(self.norms(self.same(F.silu(self.stem(x)))))
        x = self.slopes(self.local(self.up(x)))
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        x = F.interpolate(x, scale_factor=1.5, mode="bilinear")
        x = F.interpolate(x, size=(17, 19), mode="bicubic", align_corners=True)
        x = self.pools(F.pad(x, (1, 0, 2, 1), mode="replicate"))
        x = F.adaptive_avg_pool2d(F.interpolate(x, scale_factor=2), (3, 4))
        return self.head(F.normalize(x, dim=1))


class Activations(nn.Module):
    """Every activation, one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Sequential(
            nn.ReLU(), nn.Linear(11, 11), nn.ReLU6(), nn.Linear(11, 11), nn.Hardtanh(-0.5, 2), nn.Linear(11, 11),
            nn.Hardswish(), nn.Hardsigmoid(), nn.Linear(11, 11), nn.GELU(), nn.GELU("tanh"), nn.Mish(), nn.ELU(0.7),
            nn.SELU(), nn.CELU(0.6), nn.LeakyReLU(0.2), nn.Softplus(2, 3), nn.Softsign(), nn.Linear(11, 11),
            nn.LogSigmoid(), nn.Threshold(-0.9, 2), nn.Hardshrink(0.3), nn.Softshrink(0.2), nn.Tanhshrink(), nn.RReLU(),
            nn.Linear(11, 12), nn.GLU(), nn.Softmin(1), nn.LogSoftmax(1), nn.Tanh(), nn.Identity(),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.all(x)


class Tokens(nn.Module):
    """A small vision transformer: a class token, positions, attention, two ways to normalise."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 13, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu", norm_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norms = nn.Sequential(nn.LayerNorm(8), nn.RMSNorm(8))
        self.scale = nn.Parameter(torch.full((8,), 0.3))
        self.recurrent = nn.LSTM(8, 5, batch_first=True)

    def forward(self, x: Any) -> Any:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        x = self.block(x)
        mask = torch.triu(torch.full((13, 13), float("-inf")), 1)
        x = x + self.scale * self.attention(x, x, x, attn_mask=mask)[0]
        x, _ = self.recurrent(self.norms(x))
        return x[:, 0]


class Between(nn.Module):
    """What stands between modules: arithmetic, cutting and joining, windows, norms, constants."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([3, 1, 0]))
        self.qkv = nn.Linear(6, 18)
        self.table = nn.Parameter(torch.randn(9, 2))
        self.register_buffer("places", torch.randint(0, 9, (16, 16)))

    def windows(self, x: Any) -> Any:
        """Attention in windows of 4 by 4, with a bias from a table."""
        count = x.shape[0]
        w = x.permute(0, 2, 3, 1).roll((-2, -2), (1, 2)).view(count, 2, 4, 3, 4, 6)
        w = w.permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 6)
        q, k, v = self.qkv(w).reshape(-1, 16, 3, 2, 3).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.places.view(-1)].view(16, 16, 2).permute(2, 0, 1)
        weight = ((q * 3**-0.5) @ k.transpose(-2, -1) + bias.unsqueeze(0)).softmax(-1)
        w = (weight @ v).transpose(1, 2).reshape(-1, 16, 6)
        return w.view(count, 2, 3, 4, 4, 6).permute(0, 1, 3, 2, 4, 5).reshape(count, 8, 12, 6).permute(0, 3, 1, 2)

    def forward(self, x: Any) -> Any:
        x = x + self.windows(x)
        first, second, third = x.chunk(3, 1)
        x = torch.cat([second, third.relu().clamp(max=0.8), first - 0.5], 1)
        x = (x - x.amin((2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 1e-5)
        x = torch.where(x > 0.5, x, 0.1 * x) + 2 ** (-x) - 1 / (x.exp() + 1)
        x = torch.cat([x, torch.linspace(-1, 1, 12).expand(x.size(0), 1, 8, 12)], 1)
        x = x.masked_fill(x > 3, 3.0) * torch.arange(12) / 12
        x = torch.cat([x.flip(3)[:, self.order], x[:, ::2, :, :], torch.zeros(x.size(0), 2, 8, 12)], 1)
        x = F.pixel_unshuffle(F.pad(x, (0, 0, 1, 1), value=0.2), 2)
        x = F.conv2d(x, F.normalize(torch.ones(4, x.shape[1], 1, 1) * 0.7, dim=1))
        x = torch.stack([x, x.square().add(1e-3).sqrt()], 2).max(2)[0].unflatten(1, (2, 2)).sum(1)
        x = F.fold(F.unfold(x, 3, padding=1), (5, 6), 3, padding=1)
        gram = torch.einsum("bchw,bdhw->bcd", x, x) / 30
        score = F.cosine_similarity(x.flatten(2), x.flatten(2).roll(1, 2), dim=2).unsqueeze(1)
        return torch.cat([gram, score, x.mean([2, 3]).unsqueeze(1), x.logsumexp((2, 3)).unsqueeze(1)], 1)


MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "images": (Images, (3, 3, 21, 26)),
    "activations": (Activations, (5, 11)),
    "tokens": (Tokens, (3, 3, 12, 16)),
    "between": (Between, (3, 6, 8, 12)),
}
DIALECTS: dict[str, Callable[[Any], Any]] = {
    "exported": lambda program: program,
    "functional": lambda program: program.run_decompositions({}),
    "core": lambda program: program.run_decompositions(),
}


class Watcher(torch.fx.Interpreter):
    """Runs an exported graph and keeps each call of an aten operator with its numbers, before anything overwrites them.

    Attributes:
        found: The calls, each with the node and what came out.
    """

    def __init__(self, program: Any, x: Any) -> None:
        super().__init__(program.graph_module)
        signature = program.graph_signature.input_specs
        self.held = {spec.arg.name for spec in signature if spec.kind.name != "USER_INPUT"}
        values = {**program.constants, **program.state_dict}
        self.input, self.found = x, list[tuple[Any, AtenCall, Any]]()
        with torch.no_grad():
            self.run(*(x if spec.kind.name == "USER_INPUT" else values[spec.target].detach() for spec in signature))

    def run_node(self, n: Any) -> Any:
        wanted = n.op == "call_function" and isinstance(n.target, torch._ops.OpOverload)
        if not wanted or n.target.namespace != "aten" or "sym_" in n.target._schema.name or n.meta["val"] is None:
            return super().run_node(n)
        call = self.call_of(n)
        result = super().run_node(n)
        many = isinstance(result, list | tuple)
        kept = [one.numpy().copy() for one in result if one is not None] if many else result.numpy().copy()
        self.found.append((n, call, kept))
        return result

    def call_of(self, n: Any) -> AtenCall:
        tensors: list[Any] = []
        shapes: list[tuple[int | None, ...]] = []
        weights: dict[str, Any] = {}
        sized = False

        def told(node: Any) -> Any:
            nonlocal sized
            if isinstance(node, list | tuple):
                return [told(one) for one in node]
            if not isinstance(node, torch.fx.Node):
                return str(node) if isinstance(node, torch.dtype) else node
            value = self.env[node]
            if isinstance(value, int):
                sized = True
                return {"batch": value // self.input.shape[0]}
            if node.name in self.held:
                weights[node.name] = value.numpy().copy()
                return {"weight": node.name}
            tensors.append(value.numpy().copy())
            shapes.append(tuple(size if isinstance(size, int) else None for size in node.meta["val"].shape))
            return {"tensor": len(tensors) - 1}

        names = (argument.name for argument in n.target._schema.arguments)
        arguments = {**dict(zip(names, map(told, n.args), strict=False)), **{k: told(v) for k, v in n.kwargs.items()}}
        if sized and not any(shape[:1] == (None,) for shape in shapes):
            # Nothing that it takes shows the batch: the network's input does.
            arguments = _measured(arguments, len(tensors))
            tensors.append(self.input.numpy())
            shapes.append((None, *self.input.shape[1:]))
        return _Told(n.target, (), {}, arguments, weights, tensors, False, tuple(shapes))


class _Told(AtenCall):
    """A call whose shapes are those of the export."""

    def __init__(self, *args: Any) -> None:
        *rest, self._shapes = args
        super().__init__(*rest)

    @property
    def shapes(self) -> list[tuple[int | None, ...]]:
        return list(self._shapes)


def _measured(value: Any, tensor: int) -> Any:
    if isinstance(value, dict):
        found = {name: _measured(one, tensor) for name, one in value.items()}
        return {**found, "tensor": tensor} if "batch" in found else found
    return [_measured(one, tensor) for one in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def programs() -> dict[str, tuple[Any, Any]]:
    """Each model exported with a dynamic batch, and its input."""
    made: dict[str, tuple[Any, Any]] = {}
    for name, (build, shape) in MODELS.items():
        torch.manual_seed(0)
        model, x = build().eval(), torch.randn(shape)
        for module in model.modules():
            if getattr(module, "running_var", None) is not None:
                module.running_var.uniform_(0.3, 2)
                module.running_mean.normal_()
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
                nn.init.normal_(module.weight)
        batch = torch.export.Dim("batch", min=2, max=64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of its own LSTM
            made[name] = torch.export.export(model, (x,), dynamic_shapes=({0: batch},)), x
    return made


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("model", MODELS)
def test_every_call_of_an_export_is_computed_and_audited(
    model: str, dialect: str, programs: dict[str, tuple[Any, Any]]
) -> None:
    program, x = programs[model]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = DIALECTS[dialect](program)
    watched = Watcher(program, x)
    assert len(watched.found) > 20
    verdicts: Counter[str] = Counter()
    for node, call, kept in watched.found:
        where = f"{node.name}: {node.target} {call.arguments}"
        found = call.translation()
        told = found.operation.output_shape(*fill(found.args, call.shapes))
        output = kept if isinstance(told, list) or not isinstance(kept, list) else kept[0]
        pairs = zip(told, output, strict=True) if isinstance(told, list) else [(told, output)]
        for shape, array in pairs:
            assert len(shape) == np.ndim(array), where
            assert all(a is None or a == b for a, b in zip(shape, array.shape, strict=True)), where
        audit = call.audited(output)
        verdicts[audit.verdict] += 1
        assert audit.verdict in ("exact", "float32"), (where, audit)
    assert verdicts["exact"] > len(watched.found) / 4
