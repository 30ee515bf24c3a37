"""Run by tests in a process of its own: one Keras backend through everything that its tests ask of it.

``python keras_sessions.py BACKEND GRAPHS FOLDER`` (GRAPHS is what make_graphs.py wrote) writes FOLDER/report.json and
FOLDER/NAME.npz, the feature maps of every tensor of each model.
"""

import importlib
import json
import os
import sys
from pathlib import Path

name = sys.argv[1]
module = importlib.import_module("cnnlens_backends." + name.replace("-", "_"))
BACKEND = module.BACKEND
report: dict[str, object] = {"clean": sorted({"keras", "tensorflow", "jax", "torch"} & set(sys.modules))}
os.environ.update(BACKEND.environment("cpu", "strict"))

import keras  # noqa: E402
import numpy as np  # noqa: E402
from cnnlens_backends._keras_live import network_from_live  # noqa: E402
from keras import layers as kl  # noqa: E402

import cnnlens  # noqa: E402

GRAPHS, FOLDER = Path(sys.argv[2]), Path(sys.argv[3])


def canonical(array):
    return array if array.ndim < 3 else np.moveaxis(array, -1, 1)


def inputs_of(model):
    with np.load(GRAPHS / f"{model}.inputs.npz") as found:
        return [canonical(found[key]) for key in found.files]


def load(network, precision="native", **options):
    return BACKEND.load(network, "cpu", precision, **options)


def differing(network, session):
    """Weights that are not, bit for bit, what the file has."""
    held = session.weights()
    return [
        f"{layer.name}/{key}"
        for layer in network.layers
        for key, array in layer.weights.items()
        if held[layer.name][key].dtype != array.dtype or held[layer.name][key].tobytes() != array.tobytes()
    ]


def same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


def models():
    weights, repeated = {}, {}
    for path in sorted(GRAPHS.glob("*.keras")):
        network = cnnlens.open(path)
        session = load(network)
        given = inputs_of(path.stem)
        maps = session.feature_maps(given, list(network.tensors))
        # Once more and once again: under torch the second call captures a graph, the third runs it.
        again = [session.feature_maps(given, list(network.tensors)) for _ in range(2)]
        weights[path.stem] = differing(network, session)
        repeated[path.stem] = same(maps, again[0]) and same(maps, again[1])
        np.savez(FOLDER / f"{path.stem}.npz", **{key.replace("/", "|"): value for key, value in maps.items()})
        session.close()
    report.update(weights=weights, repeated=repeated)


def batches():
    network = cnnlens.open(GRAPHS / "sequential.keras")
    session = load(network)
    images = np.random.default_rng(1).standard_normal((8, 3, 11, 9)).astype("float32")
    wanted = ["second", "head"]
    whole = session.feature_maps([images], wanted)
    parts = [session.feature_maps([images[at : at + 3]], wanted) for at in (0, 3, 6)]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in wanted}
    # The same images, channels last in memory: a view, as a reader of image files gives it.
    view = np.moveaxis(np.ascontiguousarray(np.moveaxis(images, 1, -1)), -1, 1)
    frozen = images.copy()
    frozen.flags.writeable = False  # as a memory map's
    report["batches"] = {
        "sizes": [len(part["head"]) for part in parts],
        "apart": max(float(np.abs(joined[key] - whole[key]).max()) for key in wanted),
        "view apart": max(
            float(np.abs(session.feature_maps([view], wanted)[key] - whole[key]).max()) for key in wanted
        ),
        "read only": same(session.feature_maps([frozen], wanted), whole),
        "order": list(session.feature_maps([images], ["head", "first", "pool"])),
        "renewed": renewed(session, network, images[:2], wanted),
        "bounded": bounded(session, images),
    }


def renewed(session, network, few, wanted):
    """Whether a session that has run larger batches is, renewed, as one that has run none."""
    new = load(network)
    alone = new.feature_maps([few], wanted)
    new.close()
    session.renew()
    return same(session.feature_maps([few], wanted), alone)


def bounded(session, images):
    """Whether a session that is renewed again and again holds on to what few batch sizes were compiled to."""
    kept = []
    for count in range(1, 10):
        session.renew()
        session.feature_maps([np.resize(images, (count, *images.shape[1:]))], ["head"])
        kept.append(max(len(plan.shapes) for plan in session._plans.values()))
    session.renew()
    return kept[-2] > 1 and ("head",) not in [tuple(name for name, _ in key[0]) for key in session._plans]


def precisions():
    network = cnnlens.open(GRAPHS / "sequential.keras")
    before = switches()
    session = load(network, "strict")
    maps = session.feature_maps(inputs_of("sequential"), list(network.tensors))
    report["precisions"] = {
        "repeats": same(maps, session.feature_maps(inputs_of("sequential"), list(network.tensors))),
        "restored": before == switches(),
        "device": session.device,
        "versions": dict(session.versions),
        "devices": BACKEND.devices(),
    }
    with BACKEND.switched("strict"):
        report["precisions"]["inside"] = switches()


def switches():
    """The framework's own word on reduced precision."""
    if BACKEND.framework == "tensorflow":
        import tensorflow as tf

        return [tf.config.experimental.tensor_float_32_execution_enabled()]
    if BACKEND.framework == "jax":
        import jax

        return [jax.config.jax_default_matmul_precision]
    import torch

    flags = torch.backends.cudnn
    return [
        flags.allow_tf32,
        flags.deterministic,
        torch.backends.cuda.matmul.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    ]


def refusals():
    cases = {}

    def refuse(case, change, model="sequential", **options):
        network = cnnlens.open(GRAPHS / f"{model}.keras")
        try:
            change(network)
            load(network, **options).feature_maps(inputs_of(model), list(network.tensors))
            cases[case] = ["nothing was refused", ""]
        except cnnlens.CnnlensError as error:
            cases[case] = [str(error), type(error).__name__]

    def config(layer, /, **changed):
        layer.config = {**layer.config, **changed}

    def run(network, given, tensors=("head",)):
        load(network).feature_maps(given, tensors)

    image = np.zeros((1, 3, 11, 9), np.float32)
    function = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    inside = {"module": "posixpath", "class_name": "Evil", "config": {}, "registered_name": None}
    refuse("Lambda", lambda n: setattr(n["pool"], "kind", "Lambda"))
    refuse("TFSMLayer", lambda n: setattr(n["pool"], "kind", "TFSMLayer"))
    refuse("foreign module", lambda n: setattr(n["pool"], "module", "subprocess"))
    refuse("unknown class", lambda n: setattr(n["pool"], "kind", "Popen"))
    refuse("registered", lambda n: setattr(n["pool"], "entry", {**n["pool"].entry, "registered_name": "mine>Pool"}))
    refuse("foreign function", lambda n: config(n["first"], activation=function))
    refuse(
        "keras function",
        lambda n: config(n["first"], activation={**function, "module": "keras.utils", "config": "get_file"}),
    )
    refuse("named function", lambda n: config(n["first"], activation="get_file"))
    refuse("foreign class inside", lambda n: config(n["frames"], layer=inside), "time_distributed")
    refuse(
        "Lambda inside",
        lambda n: config(n["frames"], layer={**inside, "module": "keras.layers", "class_name": "Lambda"}),
        "time_distributed",
    )
    refuse("foreign op", lambda n: setattr(n["true_divide"], "kind", "Popen"), "bare_operations")
    refuse("too large", lambda n: config(n["head"], units=10**9))
    refuse("another size", lambda n: config(n["head"], units=3))
    refuse("nonsense", lambda n: config(n["first"], kernel_size="three"))
    refuse("no bias stored", lambda n: n["first"].stored.pop("bias"))
    refuse("no such weight", lambda n: config(n["first"], use_bias=False))
    refuse("no graph", lambda n: setattr(n, "calls", ()))
    refuse("precision", lambda n: None, precision="exact")
    refuse("device", lambda n: BACKEND.load(n, "gpu:7", "native"))
    refuse("tensor", lambda n: run(n, [image], ["heads"]))
    refuse("shape", lambda n: run(n, [image[..., :5]]))
    refuse("inputs", lambda n: run(n, [image, image]))
    report["refusals"] = cases


@keras.saving.register_keras_serializable("tests")
class Doubled(kl.Layer):
    def build(self, shape):
        self.factor = self.add_weight(name="factor", shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * 2 * self.factor


def trusted():
    image = keras.Input((5, 4, 3), name="image")
    x = kl.Conv2D(2, 3, name="conv")(image)
    model = keras.Model(image, Doubled(name="doubled")(kl.Lambda(lambda t: t + 1, name="code")(x)))
    model.save(FOLDER / "trusted.keras")
    network = cnnlens.open(FOLDER / "trusted.keras")
    given = np.random.default_rng(3).standard_normal((2, 3, 5, 4)).astype("float32")
    try:
        load(network)
        report["untrusted"] = "nothing was refused"
    except cnnlens.CnnlensError as error:
        report["untrusted"] = str(error)
    maps = load(network, trust_code=True).feature_maps([given], ["conv", "doubled"])
    report["trusted"] = float(np.abs((maps["conv"] + 1) * 2 - maps["doubled"]).max())


def live():
    image = keras.Input((6, 5, 2), name="image")
    inner = keras.Sequential(
        [kl.Conv2D(3, 2, padding="same", name="conv"), kl.BatchNormalization(name="norm")], name="block"
    )
    x = Doubled(name="doubled")(inner(image))
    film = kl.Reshape((6, 5, 3), name="film")(x)
    steps = kl.TimeDistributed(kl.Dense(4, activation="relu", name="each"), name="steps")(film)
    model = keras.Model(image, kl.GlobalMaxPooling2D(name="peak")(keras.ops.relu(steps) + 1.0), name="alive")
    given = np.random.default_rng(4).standard_normal((3, 6, 5, 2)).astype("float32")
    network = network_from_live(model)
    model.save(FOLDER / "live.keras")
    filed = cnnlens.open(FOLDER / "live.keras")
    session = load(network, live=model)
    truth = keras.ops.convert_to_numpy(model(given, training=False))
    first = session.feature_maps([canonical(given)], ["peak"])["peak"]
    for weight in model.weights:
        weight.assign(keras.ops.convert_to_numpy(weight) + 0.25)
    moved = keras.ops.convert_to_numpy(model(given, training=False))
    later = [session.feature_maps([canonical(given)], ["peak"])["peak"] for _ in range(3)]
    report["live"] = {
        "layers": [[layer.name, sorted(layer.weights)] for layer in network.layers],
        "filed": [[layer.name, sorted(layer.weights)] for layer in filed.layers],
        "apart": float(np.abs(first - truth).max()),
        "moves": float(np.abs(moved - truth).max()),
        "after training": max(float(np.abs(one - moved).max()) for one in later),
        "differing": differing(network, session),
        "hash": network.source.sha256 != network_from_live(keras.models.clone_model(model)).source.sha256,
        "unbuilt": said(lambda: network_from_live(keras.Sequential([kl.Dense(2)]))),
        "no model": said(lambda: network_from_live(kl.Dense(2))),
        "another": said(lambda: load(cnnlens.open(GRAPHS / "shared.keras"), live=model)),
    }


def said(call):
    try:
        call()
    except cnnlens.CnnlensError as error:
        return str(error)
    return "nothing was refused"


def keras_2():
    """What Keras 2 wrote and Keras 3 does not take: said on a network whose arrays stay as they are."""
    network = cnnlens.open(GRAPHS / "signal.keras")
    given = inputs_of("signal")
    linear = load(network).feature_maps(given, ["causal"])["causal"]
    network.source.keras_version = "2.13.1"
    network["causal"].config = {
        **network["causal"].config,
        "activation": "hard_sigmoid",
        "batch_input_shape": [None, 19, 3],
    }
    network["separable"].config = {
        **network["separable"].config,
        "kernel_initializer": {"class_name": "Zeros", "config": {}},
        "groups": 1,
        "dtype": {"class_name": "Policy", "config": {"name": "float32"}},
    }
    sigmoid = load(network).feature_maps(given, ["causal", "separable"])["causal"]
    normed = cnnlens.open(GRAPHS / "sequential.keras")
    before = load(normed).feature_maps(inputs_of("sequential"), ["norm"])["norm"]
    normed["norm"].config = {**normed["norm"].config, "axis": [1], "fused": None}
    report["keras 2"] = {
        "hard_sigmoid": float(np.abs(np.clip(0.2 * linear + 0.5, 0, 1) - sigmoid).max()),
        "axis": same({"norm": before}, load(normed).feature_maps(inputs_of("sequential"), ["norm"])),
    }
    network["separable"].config = {**network["separable"].config, "groups": 2}
    report["keras 2"]["groups"] = said(lambda: load(network))


def own_faults():
    """The pooling that one version of Keras gets wrong under torch: shown as Keras computes it."""
    image = keras.Input((6, 8, 2), name="image")
    model = keras.Model(image, kl.AveragePooling2D(3, strides=2, padding="same", name="pool")(image))
    model.save(FOLDER / "pool.keras")
    given = np.random.default_rng(5).standard_normal((2, 6, 8, 2)).astype("float32")
    session = load(cnnlens.open(FOLDER / "pool.keras"))
    truth = canonical(keras.ops.convert_to_numpy(model(given, training=False)))
    maps = [session.feature_maps([canonical(given)], ["pool"])["pool"] for _ in range(3)]
    report["as keras"] = max(float(np.abs(one - truth).max()) for one in maps)


def failure():
    """An input that a layer finds too small only when it runs."""
    layers = [keras.Input((None, None, 3), name="image"), kl.Conv2D(4, 3, name="a"), kl.Conv2D(2, 5, name="b")]
    keras.Sequential(layers).save(FOLDER / "small.keras")
    session = load(cnnlens.open(FOLDER / "small.keras"))
    report["fails"] = said(lambda: session.feature_maps([np.zeros((1, 3, 6, 5), np.float32)], ["b"]))
    report["runs"] = session.feature_maps([np.zeros((2, 3, 9, 8), np.float32)], ["b"])["b"].shape


def graphs():
    """Under torch: whether copies were left out, of a network with every reason not to write in place."""
    import torch
    from cnnlens_backends import keras_torch

    captured = []
    real = keras_torch._graph

    def spy(walk, tensors):
        found = real(walk, tensors)
        captured.append(isinstance(found[0], torch.fx.GraphModule))
        return found

    keras_torch._graph = spy
    network = cnnlens.open(GRAPHS / "sequential.keras")
    session = load(network)
    maps = [session.feature_maps(inputs_of("sequential"), ["second"])["second"] for _ in range(3)]
    strict = load(network, "strict")
    for _ in range(3):
        strict.feature_maps(inputs_of("sequential"), ["second"])
    report["graphs"] = {"captured": captured, "same": all(np.array_equal(maps[0], one) for one in maps)}


def main():
    for part in (models, batches, precisions, refusals, trusted, live, keras_2, own_faults, failure):
        part()
    if BACKEND.framework == "torch":
        graphs()
    (FOLDER / "report.json").write_text(json.dumps(report))


main()
