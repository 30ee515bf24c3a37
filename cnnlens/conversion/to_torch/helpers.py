"""Functions and small modules that a generated file holds where PyTorch has nothing of the kind.

Each is plain PyTorch, laid out as a formatter leaves it, and is copied into a file only if that file uses it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HELPERS", "Helper"]


@dataclass(frozen=True)
class Helper:
    """Holds the text of a helper, and the other helpers that it calls."""

    text: str
    needs: tuple[str, ...] = ()


_SAME_PAD = '''
def same_pad(
    x: torch.Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...] = (1, 1, 1),
    value: float = 0.0,
) -> torch.Tensor:
    """Keras' "same" padding of (N, C, *spatial); the odd cell is behind."""
    pads: list[int] = []
    for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads, value=value)
'''

_KERAS_RELU = '''
def keras_relu(
    x: torch.Tensor,
    slope: float,
    most: float | None,
    threshold: float,
) -> torch.Tensor:
    """Keras' ReLU with all its settings."""
    kept = torch.where(x <= threshold, 0.0, x).clamp(min=0.0, max=most)
    return kept + slope * (x - threshold).clamp(max=0.0)
'''

_SOFTMAX_OVER = '''
def softmax_over(x: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    """Softmax over several axes at once."""
    powers = torch.exp(x - x.amax(dim=dims, keepdim=True))
    return powers / powers.sum(dim=dims, keepdim=True)
'''

_SPARSEMAX = '''
def sparsemax(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Keras' sparsemax, which adds up the running totals of the support."""
    x = x.movedim(dim, -1)
    ordered = x.sort(dim=-1, descending=True).values
    total = ordered.cumsum(dim=-1)
    rank = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    support = ordered - (total - 1) / rank > 0
    count = support.sum(dim=-1, keepdim=True)
    found = torch.where(support, total, 0.0).sum(dim=-1, keepdim=True)
    return (x - (found - 1) / count).clamp(min=0.0).movedim(-1, dim)
'''

_PRELU_MAP = '''
class PReLUMap(nn.Module):
    """PReLU with a slope for each position."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(min=0.0) + self.weight * x.clamp(max=0.0)
'''

_NORMALIZATION = '''
class Normalization(nn.Module):
    """(x - mean) / deviation with statistics that are kept, not learned."""

    def __init__(self, shape: tuple[int, ...], invert: bool = False) -> None:
        super().__init__()
        self.invert = invert
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        deviation = self.variance.sqrt().clamp(min=1e-7)
        if self.invert:
            return self.mean + x * deviation
        return (x - self.mean) / deviation
'''

_RESIZE_BY = '''
def resize_by(
    x: torch.Tensor,
    height: torch.Tensor,
    width: torch.Tensor,
) -> torch.Tensor:
    """(N, C, H, W) resized by weights (wanted, size) for each axis."""
    x = torch.einsum("ah,nchw->ncaw", height.to(x), x)
    return torch.einsum("bw,nchw->nchb", width.to(x), x)
'''

_RESIZE_BICUBIC = '''
def bicubic_weights(size: int, wanted: int) -> torch.Tensor:
    """TensorFlow's bicubic weights: a = -0.5, distances rounded to 1/1024."""
    step = torch.tensor(size, dtype=torch.float32) / wanted
    position = (torch.arange(wanted, dtype=torch.float32) + 0.5) * step - 0.5
    low = position.floor()
    distance = torch.round((position - low) * 1024) / 1024
    weights = torch.zeros(wanted, size, dtype=torch.float64)
    for tap in (-1, 0, 1, 2):
        index = low.long() + tap
        t = (distance - tap).abs()
        near = (1.5 * t - 2.5) * t * t + 1
        far = ((-0.5 * t + 2.5) * t - 4) * t + 2
        value = torch.where(t < 1, near, torch.where(t < 2, far, 0.0))
        inside = (index >= 0) & (index < size)
        rows = torch.arange(wanted)[inside]
        weights[rows, index[inside]] += value[inside].double()
    return weights / weights.sum(dim=1, keepdim=True)


def resize_bicubic(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic resizing of (N, C, H, W) as Keras does it under TensorFlow."""
    height = bicubic_weights(x.shape[2], size[0])
    width = bicubic_weights(x.shape[3], size[1])
    return resize_by(x, height, width)
'''

_RESIZE_LANCZOS = '''
def lanczos_weights(
    size: int,
    wanted: int,
    radius: int,
    antialias: bool,
) -> torch.Tensor:
    """The weight of every source pixel for every wanted one."""
    step = size / wanted
    spread = max(step, 1.0) if antialias else 1.0
    centre = (torch.arange(wanted, dtype=torch.float64) + 0.5) * step
    source = torch.arange(size, dtype=torch.float64) + 0.5
    t = (source[None, :] - centre[:, None]) / spread
    weights = torch.where(t.abs() < radius, torch.sinc(t) * torch.sinc(t / radius), 0.0)
    return weights / weights.sum(dim=1, keepdim=True)


def resize_lanczos(
    x: torch.Tensor,
    size: tuple[int, int],
    radius: int,
    antialias: bool = False,
) -> torch.Tensor:
    """Lanczos resizing of (N, C, H, W)."""
    height = lanczos_weights(x.shape[2], size[0], radius, antialias)
    width = lanczos_weights(x.shape[3], size[1], radius, antialias)
    return resize_by(x, height, width)
'''

_LOCAL = '''
class LocallyConnected2d(nn.Module):
    """A convolution whose kernel is another one at each position."""

    def __init__(
        self,
        channels: int,
        filters: int,
        places: tuple[int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int],
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.places, self.kernel, self.stride = places, kernel, stride
        taps, positions = channels * kernel[0] * kernel[1], places[0] * places[1]
        self.weight = nn.Parameter(torch.zeros(filters, positions, taps))
        self.bias = nn.Parameter(torch.zeros(filters, *places)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = F.unfold(x, self.kernel, stride=self.stride)
        x = torch.einsum("nkp,opk->nop", patches, self.weight)
        x = x.unflatten(2, self.places)
        return x if self.bias is None else x + self.bias
'''

_AS_FLOAT = '''
def as_float(x: torch.Tensor) -> torch.Tensor:
    """Truth values and whole numbers as floating ones."""
    return x if x.is_floating_point() else x.float()
'''

_ONE_HOT = '''
def one_hot(x: torch.Tensor, count: int) -> torch.Tensor:
    """One where an index says so, on a new last axis; an index outside gives zeros."""
    hot = x[..., None].long() == torch.arange(count, device=x.device)
    return hot.to(x.dtype) if x.is_floating_point() else hot.float()
'''

_MIRROR_PAD = '''
def mirror_pad(
    x: torch.Tensor,
    dim: int,
    before: int,
    after: int,
    symmetric: bool,
) -> torch.Tensor:
    """Reflect on one axis, with the edge itself (symmetric) or without."""
    size, edge = x.shape[dim], 0 if symmetric else 1
    front = torch.arange(before - 1 + edge, edge - 1, -1, device=x.device)
    back = torch.arange(size - 1 - edge, size - 1 - edge - after, -1, device=x.device)
    inside = torch.arange(size, device=x.device)
    return x.index_select(dim, torch.cat([front, inside, back]))
'''

HELPERS: dict[str, Helper] = {
    "same_pad": Helper(_SAME_PAD),
    "keras_relu": Helper(_KERAS_RELU),
    "softmax_over": Helper(_SOFTMAX_OVER),
    "sparsemax": Helper(_SPARSEMAX),
    "PReLUMap": Helper(_PRELU_MAP),
    "Normalization": Helper(_NORMALIZATION),
    "LocallyConnected2d": Helper(_LOCAL),
    "as_float": Helper(_AS_FLOAT),
    "one_hot": Helper(_ONE_HOT),
    "mirror_pad": Helper(_MIRROR_PAD),
    "resize_by": Helper(_RESIZE_BY),
    "resize_bicubic": Helper(_RESIZE_BICUBIC, ("resize_by",)),
    "resize_lanczos": Helper(_RESIZE_LANCZOS, ("resize_by",)),
}
"""Every helper by the name under which generated code calls it."""
