// A section a layer, filled when it comes near what is seen.

import { terms } from "./about.js";
import { data, el, say, whenNear } from "./dom.js";
import { whole } from "./format.js";
import { histogram } from "./histogram.js";
import { kernelsOf } from "./kernels.js";
import { mapsOf } from "./maps.js";
import { markCurrent, sectionOf } from "./network.js";
import { workingOf } from "./working.js";

export function drawLayers() {
  const near = new IntersectionObserver((entries) => {
    const seen = entries.filter((entry) => entry.isIntersecting);
    if (seen.length) markCurrent(seen[0].target.id);
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const layer of data.layers) {
    const body = el("div", { className: "body" });
    const section = el(
      "section", { id: sectionOf(layer.index), className: "layer" },
      el("h3", { title: layer.name }, el("span", { className: "index" }, String(layer.index)), " ", layer.name),
      el("p", { className: "kind" }, [layer.kind, layer.in_words].filter(Boolean).join(" ")),
      facts(layer), body,
    );
    document.getElementById("layers").append(section);
    near.observe(section);
    if (layer.shown) {
      if (layer.weights.some(({ view }) => view && view !== "vector") || layer.maps.length) section.classList.add("pictured");
      whenNear(section, () => fill(layer, body).finally(() => section.classList.add("filled")));
    } else body.append(el("p", { className: "note" }, say("not_shown")));
  }
}

function facts(layer) {
  const shape = layer.output_shape;
  const sizes = shape && shape.map((size, axis) => size ?? (axis ? "?" : "N"));
  const rows = [
    [say("output"), sizes ? `(${sizes.join(", ")})` : "?"],
    [say("parameters"), layer.parameters ? whole(layer.parameters) : say("no_weights")],
    [say("fed_by"), layer.inputs.join(", ")],
  ];
  return terms(rows.filter(([, text]) => text));
}

// What is chosen in one part is chosen in those of the same channels: tell(one)(k, c) shows it in the others.
async function fill(layer, body) {
  const links = [];
  const tell = (from) => (k, c) => links.forEach((one) => one !== from() && one.show(k, c));
  const weights = layer.weights.filter(({ view }) => view === "tiles" || view === "matrix");
  const drawn = [];
  for (const weight of weights) {
    let kernels = null;
    kernels = await kernelsOf(weight, tell(() => kernels));
    drawn.push(kernels);
    body.append(el("section", {}, el("h4", { className: "part" }, say("kernels")), kernels.element));
    const bars = histogram(weight.histogram);
    if (bars) kernels.element.append(el("h4", {}, say("histogram")), bars);
  }
  for (const tensor of layer.maps.filter(({ view }) => view !== null)) {
    if (Object.hasOwn(data.inputs.arrays, tensor.tensor)) {
      body.append(el("p", { className: "note" }, say("is_input")));
      continue;
    }
    let [maps, working] = [null, null];
    if (tensor.array !== null) {
      working = workingOf(layer, tensor, tell(() => working));
      body.append(working.element);
      links.push(working);
      await working.ready;
    }
    maps = await mapsOf(tensor, tell(() => maps));
    body.append(el("section", {}, el("h4", { className: "part" }, say(tensor.view === "bars" ? "activations" : "maps")), maps.element));
    links.push(maps);
  }
  if (weights.length === 1 && layer.maps.some(({ shape }) => shape[1] === weights[0].canonical_shape[0])) links.push(drawn[0]);
}
