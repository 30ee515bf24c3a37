// What is drawn of each way to compute a number: of a convolution, a pooling, a dense layer, a batch norm, an activation.
// Each has the `window` on its
// input, `numbers`, what stands `below` the sum, and compute(have, state, index), which draws all of them for the number at
// `index` and gives the sum:
// { terms: [[value, what it is]], total, totals(): the sums of all channels }.

import { convolved, multiplied, normalised, paddingOf, placesOf, pooled, unravelled } from "./arithmetic.js";
import { Bars } from "./bars.js";
import { el, say } from "./dom.js";
import { boxesOf, Enlarged } from "./enlarged.js";
import { number, whole } from "./format.js";
import { grid } from "./grid.js";
import { tileShape } from "./kernels.js";

const TERMS = 8; // of a dense layer that are listed

export function methodOf({ working }, source, choose) {
  const made = {
    convolution, transposed: convolution, maximum: pooling, mean: pooling, dense, normalisation: pointwise, activation: pointwise,
    sum: added,
  };
  return made[working.how](working, source, choose);
}

// The window on the layer's input, and its numbers.
function windowOf(working, source) {
  const sizes = source.shape.slice(2);
  const picture = new Enlarged(tileShape(sizes));
  const said = el("figcaption");
  const show = ({ values, start, cells, count, ends, table }, channel, index) => {
    const places = placesOf(working, index, sizes);
    const from = start + channel * cells;
    const [low, high] = ends(channel);
    picture.paint(values, table, from, low, high);
    const taken = places.filter((place) => place >= 0).map((place) => unravelled(place, sizes));
    const corner = (pick) => sizes.map((_, axis) => taken.reduce((found, one) => pick(found, one[axis]), taken[0][axis]));
    picture.mark("window", taken.length ? boxesOf(corner(Math.min), corner(Math.max)) : []);
    said.textContent = say("of_channel", { tensor: working.of, index: channel, count: whole(count) });
    const patch = places.map((place) => (place < 0 ? null : values[from + place]));
    return { places, patch, drawn: { caption: say("window"), values: patch, shape: tileShape(working.axes.map(({ taps }) => taps)), table, low, high } };
  };
  return { figure: el("figure", {}, picture.element, said), show };
}

function convolution(working, source, choose) {
  const window = windowOf(working, source);
  const numbers = el("div", { className: "numbers" });
  const below = el("div");
  let bars = null;
  const contributions = (sums, first, c) => {
    if (bars === null) {
      bars = new Bars({
        label: `${say("by_channel")}: ${say("arrow_keys")}`, count: sums.length,
        says: (at) => say("adds", { index: first + at, value: bars?.values ? number(bars.values[at], 4) : "" }),
        show: choose,
      });
      below.append(el("p", { className: "of" }, say("by_channel")), bars.element);
    }
    bars.chosen = c;
    bars.set(sums);
  };
  return {
    window: window.figure, numbers, below,
    compute: (have, state, index) => {
      const [outputs, inputs] = have.kernel.shape;
      const c = Math.min(state.c, inputs - 1);
      const first = Math.floor((state.k * working.groups) / outputs) * inputs;
      const { places, patch, drawn } = window.show(have.input, first + c, index);
      const { sums, bias, total } = convolved(working, have, state.k, places);
      const taps = [...have.kernel.values.subarray((state.k * inputs + c) * places.length, (state.k * inputs + c + 1) * places.length)];
      const products = taps.map((tap, at) => {
        if (patch[at] !== null) return tap * patch[at];
        return paddingOf(working) === null || Number.isFinite(tap) ? null : NaN;
      });
      const coloured = (caption, values) => {
        const most = values.reduce((found, one) => (Number.isFinite(one) ? Math.max(found, Math.abs(one)) : found), 1e-30);
        return grid({ caption, values, shape: drawn.shape, table: have.diverging, low: -most, high: most });
      };
      numbers.replaceChildren(
        grid(drawn), el("span", { className: "sign" }, "\u00d7"), coloured(say("kernel"), taps),
        el("span", { className: "sign" }, "="), coloured(say("products"), products),
      );
      const terms = [[sums[c], inputs > 1 ? say("from_channel", { index: first + c }) : say("products_summed")]];
      if (inputs > 1) {
        contributions(sums, first, c);
        terms.push([sums.reduce((all, one) => all + one, 0) - sums[c], say("from_others", { count: whole(inputs - 1) })]);
      }
      if (have.bias) terms.push([bias, say("bias")]);
      return { terms, total, totals: () => Array.from({ length: outputs }, (_, k) => convolved(working, have, k, places).total) };
    },
  };
}

function pooling(working, source) {
  const window = windowOf(working, source);
  const numbers = el("div", { className: "numbers" });
  return {
    window: window.figure, numbers, below: null,
    compute: (have, state, index) => {
      const { patch, drawn } = window.show(have.input, state.k, index);
      const { value, winner, count } = pooled(working, patch);
      numbers.replaceChildren(grid({ ...drawn, chosen: winner }));
      return { terms: [[value, say(working.how === "mean" ? "mean_of" : "largest_of", { count })]], total: value, totals: null };
    },
  };
}

// A number of one number: a batch norm's, which scales and shifts it, or an activation's.
function pointwise(working, source) {
  const window = working.axes.length ? windowOf(working, source) : null;
  const valueAt = ({ input }, k, [place]) => input.values[input.start + k * input.cells + place];
  return {
    window: window && window.figure, numbers: null, below: null,
    compute: (have, state, index) => {
      if (window) window.show(have.input, state.k, index);
      const places = placesOf(working, index, source.shape.slice(2));
      const value = valueAt(have, state.k, places);
      if (working.how === "activation") {
        const totals = () => Array.from({ length: have.input.count }, (_, k) => valueAt(have, k, places));
        return { terms: [[value, say("input_value")]], total: value, totals };
      }
      const { terms, total } = normalised(working, have, state.k, value);
      return { terms: terms.map(([term, key]) => [term, say(key)]), total, totals: null };
    },
  };
}

// A sum of tensors: their numbers at the same place.
function added(working) {
  return {
    window: null, numbers: null, below: null,
    compute: ({ inputs }, state) => {
      const terms = inputs.map(({ values, start, cells }, at) => [values[start + state.k * cells + Math.max(state.place, 0)], working.of[at]]);
      return { terms, total: terms.reduce((sum, [term]) => sum + term, 0), totals: null };
    },
  };
}

function dense(working) {
  const numbers = el("div", { className: "wide", tabIndex: 0, attributes: { role: "group", "aria-label": say("products") } });
  return {
    window: null, numbers, below: null,
    compute: (have, state) => {
      const { products, bias, total, weightOf } = multiplied(working, have, state.k);
      const order = [...products.keys()].sort((a, b) => Math.abs(products[b]) - Math.abs(products[a])).slice(0, TERMS);
      const heads = ["input_value", "weight", "product"].map((key) => el("th", { scope: "col" }, say(key)));
      const rows = order.map((index) => el(
        "tr", {}, el("th", { scope: "row" }, el("code", {}, `${working.of}[${index}]`)),
        ...[have.input.values[have.input.start + index], weightOf(index), products[index]].map((one) => el("td", { className: "number" }, number(one, 4))),
      ));
      numbers.replaceChildren(el(
        "table", { className: "terms-table" }, el("caption", {}, say("terms", { count: whole(products.length) })),
        el("thead", {}, el("tr", {}, el("td"), ...heads)), el("tbody", {}, ...rows),
      ));
      const shown = order.reduce((all, index) => all + products[index], 0);
      const terms = [[shown, say("from_listed", { count: order.length })]];
      if (products.length > order.length) {
        terms.push([total - bias - shown, say("from_others_terms", { count: whole(products.length - order.length) })]);
      }
      if (have.bias) terms.push([bias, say("bias")]);
      return { terms, total, totals: () => Array.from({ length: have.kernel.shape[0] }, (_, k) => multiplied(working, have, k).total) };
    },
  };
}
