// What a number of a feature map sees of the network's inputs: its receptive field.

import { data, el, say } from "./dom.js";
import { boxesOf, Enlarged } from "./enlarged.js";
import { pictureOf } from "./inputs.js";
import { chosen } from "./state.js";

// `element`, the input with the field on it, or what is said of it alone; show(index): of the number there.
export function fieldOf({ sees }) {
  if (typeof sees === "string") return { element: el("p", { className: "of" }, say("field_unknown", { reason: sees })), show: () => {} };
  const pictured = Object.keys(sees).find((name) => data.inputs.arrays[name]?.view === "picture");
  const said = el(pictured === undefined ? "p" : "figcaption", { className: "of" });
  let [drawn, painted] = [null, -1];
  if (pictured !== undefined) {
    const [, , height, width] = data.arrays[data.inputs.arrays[pictured].array].shape;
    drawn = new Enlarged({ slices: 1, height, width });
  }
  return {
    element: drawn ? el("figure", {}, drawn.element, said) : said,
    show: (index) => {
      if (drawn && painted !== chosen.example) {
        painted = chosen.example;
        pictureOf(pictured, painted).then((image) => drawn.put(image));
      }
      if (drawn) drawn.mark("field", boxesOf(...endsAt(sees[pictured], index)), true);
      said.textContent = Object.entries(sees).filter(([, axes]) => axes.length).map(([name, axes]) => inWords(name, ...endsAt(axes, index))).join(" ");
    },
  };
}

// The first and the last cell on each axis that the number at `index` sees.
function endsAt(axes, index) {
  const ends = axes.map((axis, number) => {
    const at = index[number] ?? 0;
    if ("first" in axis) return [axis.first, axis.last].map((all) => all[Math.min(at, all.length - 1)]); // one entry stands for all
    const begin = axis.offset + at * axis.stride;
    return [Math.max(begin, 0), Math.min(begin + axis.size - 1, axis.edge)];
  });
  return [0, 1].map((end) => ends.map((one) => one[end]));
}

function inWords(name, first, last) {
  const sizes = first.map((from, axis) => last[axis] - from + 1);
  if (sizes.some((size) => size < 1)) return say("field_nothing", { name });
  const named = ["slices", "rows", "columns"].slice(-sizes.length);
  const ends = first.map((from, axis) => `${say(named[axis])} ${from}\u2013${last[axis]}`);
  return say("field_is", { name, size: sizes.join(" \u00d7 "), ends: ends.join(", ") });
}
