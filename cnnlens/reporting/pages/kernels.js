// A layer's kernels as a mosaic, with what is chosen of them.

import { colours } from "./colour.js";
import { el, say } from "./dom.js";
import { number } from "./format.js";
import { scaleBar } from "./scale.js";
import { Mosaic } from "./mosaic.js";
import { indices, readout } from "./readout.js";
import { unpack } from "./unpack.js";

// What draws one array of weights, and `show(k)`, which marks kernel k; `tell(k)` is called when one is chosen.
export async function kernelsOf(weight, tell) {
  const [{ shape }, moments] = await Promise.all([weight.array ? unpack(weight.array) : weight, unpack(weight.statistics)]);
  const tiled = weight.view === "tiles";
  const [count, inputs, ...spatial] = weight.canonical_shape;
  const cells = spatial.reduce((product, size) => product * size, 1);
  const limits = tiled ? (await unpack(weight.limits.inputs)).values : null;
  let input = 0;
  const ends = () => (tiled ? limits.subarray(input * 2, input * 2 + 2) : weight.limits.all);
  const says = (k) => say(tiled ? "kernel_of" : "row_of", { index: k, count });
  const said = readout();
  const scale = el("div");
  const show = (k) => said.show({
    title: says(k),
    notation: indices(weight.notation, letters(weight, tiled ? [k, input] : [k])),
    statistics: moments.values.subarray(k * 5, k * 5 + 5),
    of: tiled && inputs > 1 ? say("over_all_inputs", { count: inputs }) : null,
  });
  const parts = [el("h4", {}, weight.name)];
  let mosaic = null;
  if (weight.array === null) {
    parts.push(el("p", { className: "note" }, say("left_out")));
  } else {
    mosaic = new Mosaic({
      label: `${say("kernels")}: ${say("arrow_keys")}`,
      count,
      shape: tiled ? tileShape(spatial) : { height: 1, width: inputs * cells },
      joined: !tiled,
      says,
      tile: (k) => {
        const [low, high] = ends();
        return { start: tiled ? (k * inputs + input) * cells : k * inputs * cells, low, high };
      },
      source: async () => ({ values: (await unpack(weight.array)).values, table: await colours("weights") }),
      show: (k) => { show(k); tell(k, input); },
    });
    const relabel = () => scale.replaceChildren(scaleBar("weights", ...Array.from(ends(), (end) => number(end))));
    relabel();
    if (tiled && inputs > 1) {
      const choice = el("input", { type: "number", min: 0, max: inputs - 1, value: 0 });
      choice.addEventListener("input", () => {
        const wanted = Number(choice.value);
        if (!Number.isInteger(wanted) || wanted < 0 || wanted >= inputs) return;
        input = wanted;
        mosaic.repaint();
        relabel();
        show(mosaic.chosen);
        tell(mosaic.chosen, input);
      });
      parts.push(el("label", { className: "choice" }, say("input_channel"), choice));
    }
    parts.push(mosaic.element, scale);
    if (!weight.exact) parts.push(el("p", { className: "note" }, say("levels_only")));
  }
  show(0);
  parts.push(said.element);
  return {
    element: el("div", { className: "kernels" }, ...parts),
    show: (k) => { if (mosaic && k < count) { mosaic.show(k); show(k); } },
    tile: (k) => ({ start: (k * inputs + input) * cells, ends: ends() }),
    shape: tileShape(spatial),
  };
}

// The index along the letters of the first canonical axes; of an axis that holds several letters, that of each.
function letters(weight, index) {
  const canonical = weight.notation[0];
  const found = {};
  if (!canonical) return found;
  index.forEach((place, axis) => {
    let rest = place;
    for (const letter of [...canonical.axes[axis]].reverse()) {
      if (canonical.axes[axis].length > 1 && axis > 0) return; // a matrix: its rows are chosen, not its columns
      found[letter] = rest % canonical.sizes[letter];
      rest = Math.floor(rest / canonical.sizes[letter]);
    }
  });
  return found;
}

// A kernel's spatial axes as a tile: a line, a square, the slices of a volume side by side.
export function tileShape(spatial) {
  const [slices, height, width] = [...Array(Math.max(0, 3 - spatial.length)).fill(1), ...spatial];
  return { slices, height, width };
}
