// Kernels and weights, trained and untrained.

import { colours } from "./colour.js";
import { data, el, say } from "./dom.js";
import { number } from "./format.js";
import { histogram } from "./histogram.js";
import { options, typed } from "./lesson_exercise.js";
import { tile } from "./lesson_parts.js";
import { Mosaic } from "./mosaic.js";
import { unpack } from "./unpack.js";

const SHOWN = 32; // kernels of a layer
const ENOUGH = 0.006; // of the answer, which is asked with three digits

export function untrainedChapter(tell, { layers, limits }) {
  return {
    figures: layers.map((layer) => ({ element: figureOf(tell, layer), caption: tell("caption", { layer: layer.name }) })),
    tasks: { which: (random) => whichTask(tell, layers, random), limit: (random) => limitTask(tell, limits, random) },
  };
}

// Where kernel k begins in the layer's trained weights: the part of it that looks at the first input.
function trainedOf(name) {
  const weight = data.layers[name].weights[0];
  const [count, inputs] = data.arrays[weight.array].shape;
  return { weight, count, ends: data.layers[name].ends, start: (k) => k * inputs * 9 };
}

function figureOf(tell, { name, kernels, limits }) {
  const { weight, count, ends: trained, start } = trainedOf(name);
  const says = (k) => say("kernel_of", { index: k, count });
  const mosaicOf = (key, array, from, ends) => {
    const label = el("p", { className: "label" }, says(0));
    const mosaic = new Mosaic({
      label: tell(key), count: Math.min(count, SHOWN), shape: { height: 3, width: 3 }, says, show: (k) => { label.textContent = says(k); },
      tile: (k) => ({ start: from(k), low: ends[0], high: ends[1] }),
      source: async () => ({ values: (await unpack(array)).values, table: await colours("weights") }),
    });
    return el("div", {}, el("h3", {}, tell(key)), mosaic.element, label);
  };
  return el(
    "div", {},
    el(
      "div", { className: "columns" }, mosaicOf("trained", weight.array, start, trained),
      mosaicOf("drawn", kernels, (k) => k * 9, limits),
    ),
    histogram(weight.histogram),
  );
}

function whichTask(tell, layers, random) {
  const { name, kernels, limits } = layers[0];
  const { weight, count, ends: trained, start } = trainedOf(name);
  const trainedFirst = random.whole(0, 1) === 1;
  const some = random.shuffled([...Array(count).keys()]).slice(0, 9);
  const sides = [[weight.array, start, trained], [kernels, (k) => k * 9, limits]];
  if (!trainedFirst) sides.reverse();
  const drawn = sides.map(([array, from, ends], side) => {
    const tiles = el("div", { className: "tiles three-across" });
    unpack(array).then(({ values }) => tiles.append(...some.map((k) => tile(values, from(k), [3, 3], ends, "weights", 44))));
    return el("div", {}, tiles, el("p", { className: "label" }, tell(side ? "which.second" : "which.first")));
  });
  return {
    again: true,
    question: tell("which.q"),
    figure: el("div", { className: "pair" }, ...drawn),
    input: options(["first", "second"].map((key, side) => {
      const right = (side === 0) === trainedFirst;
      return { label: tell(`which.${key}`), right, why: tell(right ? "which.right" : "which.why") };
    })),
    check: (option) => option,
  };
}

function limitTask(tell, limits, random) {
  const { shape, limit } = random.pick(limits);
  const [height, width, I, O] = shape;
  const taps = height * width;
  const [inputs, outputs] = [taps * I, taps * O];
  const mistakes = [
    ["area", Math.sqrt(6 / (I + O))], ["he", Math.sqrt(6 / inputs)], ["normal", Math.sqrt(2 / (inputs + outputs))],
  ].filter(([why]) => why !== "area" || taps > 1);
  const near = (value, wanted) => Math.abs(value - wanted) <= ENOUGH * wanted;
  return {
    again: true,
    question: tell("limit.q", { shape: `(${shape.join(", ")})` }),
    input: typed(),
    check: (value) => {
      const places = { value: number(value), taps, I, O, inputs, outputs, together: inputs + outputs, answer: number(limit) };
      if (near(value, limit)) return { right: true, why: tell("limit.right", places) };
      const [why] = mistakes.find(([, wrong]) => near(value, wrong)) ?? ["other"];
      return { right: false, why: tell(`limit.${why}`, places) };
    },
  };
}
