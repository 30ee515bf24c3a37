"""Every bare op that the reference is held against Keras on: expressions whose graph is compared."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OPS", "OpCase"]


@dataclass(frozen=True)
class OpCase:
    """An expression of ``x``, ``y`` (tensors), ``dtype``, ``ops`` and ``np``; its graph is what is compared."""

    expression: str
    shapes: tuple[tuple[int, ...], ...] = ((3, 6, 5, 4),)
    # How far float64 may be off, relative to the largest value.
    loose: float = 1e-11

    @property
    def name(self) -> str:
        """A readable test id."""
        return self.expression.replace(" ", "")


_PAIR = ((3, 6, 5, 4), (3, 6, 5, 4))
OPS: list[OpCase] = [
    *(OpCase(f"x {sign} y", _PAIR) for sign in ("+", "-", "*", "/", "//", "%")),
    *(OpCase(f"x {sign} 2.5") for sign in ("+", "-", "*", "/")),
    *(OpCase(f"3 {sign} x") for sign in ("+", "-", "*", "/")),
    *(
        OpCase(text, loose=loose)
        for text, loose in (
            ("-x", 1e-11),
            ("abs(x)", 1e-11),
            ("x ** 2", 1e-11),
            ("x[:, 1:4, ..., ::2]", 1e-11),
            ("x[:, 0]", 1e-11),
            ("x[..., 1:3]", 1e-11),
            ("x[:, None]", 1e-11),
            ("x[:, -2, :, 1]", 1e-11),
            ("x * np.arange(4).astype('float32')", 1e-11),
            ("x * np.arange(4)", 1e-11),
            ("ops.argmax(x, axis=-1)", 1e-11),
            ("ops.one_hot(ops.argmin(x, axis=-1), 4, dtype=dtype) * x", 1e-11),
            ("ops.any(x > 2.0, axis=1)", 1e-11),
            ("ops.cast(x > 0.5, dtype) * x", 1e-11),
            ("ops.mean(x, axis=[1, 2], keepdims=True)", 1e-11),
            ("ops.mean(x, axis=-1)", 1e-11),
            ("ops.sum(x, axis=(1, 3))", 1e-11),
            ("ops.max(x, axis=1)", 1e-11),
            ("ops.min(x, axis=2, keepdims=True)", 1e-11),
            ("ops.prod(x, axis=2)", 1e-11),
            ("ops.var(x, axis=[1, 2])", 1e-11),
            ("ops.std(x, axis=3)", 1e-11),
            ("ops.logsumexp(x, axis=2)", 1e-11),
            ("ops.norm(x, axis=-1)", 1e-11),
            ("ops.reshape(x, (-1, 10, 12))", 1e-11),
            ("ops.transpose(x, (0, 3, 1, 2))", 1e-11),
            ("ops.expand_dims(x, 2)", 1e-11),
            ("ops.squeeze(x[:, :1], 1)", 1e-11),
            ("ops.concatenate([x, x * 2], axis=-1)", 1e-11),
            ("ops.stack([x, x * 2], axis=1)", 1e-11),
            ("ops.split(x, 2, axis=-1)[1]", 1e-11),
            ("ops.split(x, [1, 4], axis=1)[2]", 1e-11),
            ("ops.unstack(x, axis=3)[1]", 1e-11),
            ("ops.pad(x, [[0, 0], [1, 2], [3, 0], [0, 0]])", 1e-11),
            ("ops.pad(x, [[0, 0], [1, 2], [3, 0], [0, 0]], constant_values=2.5)", 1e-11),
            ("ops.pad(x, [[0, 0], [1, 2], [3, 0], [0, 0]], mode='reflect')", 1e-11),
            ("ops.clip(x, 0.0, 1.5)", 1e-11),
            ("ops.flip(x, 1)", 1e-11),
            ("ops.roll(x, 2, axis=1)", 1e-11),
            ("ops.moveaxis(x, 1, 3)", 1e-11),
            ("ops.swapaxes(x, 1, 2)", 1e-11),
            ("ops.repeat(x, 3, axis=2)", 1e-11),
            ("ops.tile(x, (1, 2, 1, 3))", 1e-11),
            ("ops.take(x, 2, axis=1)", 1e-11),
            ("ops.take(x, [2, 0, 3], axis=1)", 1e-11),
            ("ops.cumsum(x, axis=2)", 1e-11),
            ("ops.einsum('nhwc,nhwc->nhc', x, x)", 1e-11),
            ("ops.matmul(x, ops.swapaxes(x, 2, 3))", 1e-11),
            ("ops.where(x > 0.5, x, -x)", 1e-11),
            ("ops.maximum(x, 0.3)", 1e-11),
            ("ops.minimum(x, 0.3)", 1e-11),
            ("ops.power(ops.abs(x), 0.5)", 1e-11),
            ("ops.normalize(x, axis=-1)", 1e-11),
            ("ops.max_pool(x, (2, 3))", 1e-11),
            ("ops.max_pool(x, 2, 1, padding='same')", 1e-11),
            ("ops.average_pool(x, 3, 2, padding='same')", 1e-11),
            ("ops.conv(x, np.linspace(-1, 1, 3 * 2 * 4 * 7).reshape(3, 2, 4, 7).astype(dtype), padding='same')", 1e-11),
            ("ops.depthwise_conv(x, np.linspace(-1, 1, 3 * 2 * 4 * 2).reshape(3, 2, 4, 2).astype(dtype))", 1e-11),
            ("ops.image.resize(x, (11, 9))", 1e-06),
            ("ops.image.resize(x, (4, 9), interpolation='nearest')", 1e-06),
            ("ops.leaky_relu(x, 0.1)", 1e-07),
            ("ops.leaky_relu(x)", 1e-07),
            ("ops.elu(x, 0.5)", 1e-07),
            ("ops.celu(x, 0.5)", 1e-07),
            ("ops.gelu(x)", 1e-07),
            ("ops.gelu(x, approximate=False)", 1e-07),
            ("ops.softmax(x, axis=1)", 1e-07),
            ("ops.log_softmax(x, axis=2)", 1e-07),
            ("ops.glu(x, axis=1)", 1e-07),
            ("ops.hard_shrink(x, 0.3)", 1e-07),
            ("ops.soft_shrink(x, 0.3)", 1e-07),
            ("ops.threshold(x, 0.3, -2.0)", 1e-07),
            ("ops.squareplus(x, 3)", 1e-07),
            ("keras.activations.relu(x, negative_slope=0.1, max_value=2.0)", 1e-07),
        )
    ),
    *(
        OpCase(f"ops.{name}(x)", loose=1e-07)
        for name in [
            "relu",
            "relu6",
            "sigmoid",
            "silu",
            "softplus",
            "softsign",
            "tanh",
            "tanh_shrink",
            "selu",
            "hard_sigmoid",
            "hard_silu",
            "hard_tanh",
            "log_sigmoid",
            "sparse_plus",
            "sparse_sigmoid",
            "exp",
            "expm1",
            "sin",
            "cos",
            "tan",
            "square",
            "sign",
            "floor",
            "ceil",
            "erf",
            "arctan",
            "sinh",
            "cosh",
            "arcsinh",
            "round",
        ]
    ),
    *(
        OpCase(f"ops.{name}(ops.abs(x) + 0.1)", loose=1e-07)
        for name in ["sqrt", "rsqrt", "log", "log1p", "log2", "log10", "reciprocal"]
    ),
]
