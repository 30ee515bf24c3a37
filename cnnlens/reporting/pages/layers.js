// A section a layer, filled when it comes near what is seen.

import { terms } from "./about.js";
import { besideOf } from "./beside.js";
import { data, el, say, whenNear } from "./dom.js";
import { whole } from "./format.js";
import { histogram } from "./histogram.js";
import { kernelsOf } from "./kernels.js";
import { mapsOf } from "./maps.js";
import { markCurrent, sectionOf } from "./network.js";

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
      whenNear(section, () => fill(layer, body));
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

async function fill(layer, body) {
  const links = [];
  const tell = (from) => (k) => links.forEach((one) => one !== from() && one.show(k));
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
    let maps = null;
    maps = await mapsOf(tensor, tell(() => maps));
    const part = el("section", {}, el("h4", { className: "part" }, say(tensor.view === "bars" ? "activations" : "maps")), maps.element);
    body.append(part);
    const weight = weights[0];
    const paired = weights.length === 1 && tensor.shape[1] === weight.canonical_shape[0];
    if (paired && weight.view === "tiles" && tensor.view === "tiles" && weight.array && tensor.array) {
      const beside = besideOf(weight, drawn[0], maps, tensor);
      body.insertBefore(beside.element, part);
      links.push(beside);
    }
    if (paired) links.push(maps, drawn[0]);
  }
}
