// A layer's kernels as a mosaic, with what is chosen of them.

import { unravelled } from "./arithmetic.js";
import { colours } from "./colour.js";
import { data, el, say } from "./dom.js";
import { grid } from "./grid.js";
import { Mosaic } from "./mosaic.js";
import { indices, readout, written } from "./readout.js";
import { scaleBar } from "./scale.js";
import { unpack } from "./unpack.js";

// What draws one array of weights; show(k, c) marks kernel k and, where it is given, shows input channel c.
//   tell(k, c): is called when one of them is chosen here
export async function kernelsOf(weight, tell) {
  const [held, moments] = await Promise.all([weight.array && unpack(weight.array), unpack(weight.statistics)]);
  const table = await colours("weights");
  const tiled = weight.view === "tiles";
  const [count, inputs, ...spatial] = weight.canonical_shape;
  const cells = spatial.reduce((product, size) => product * size, 1);
  const limits = tiled ? (await unpack(weight.limits.inputs)).values : null;
  let input = 0;
  const ends = () => (tiled ? limits.subarray(input * 2, input * 2 + 2) : weight.limits.all);
  const startOf = (k) => (tiled ? (k * inputs + input) * cells : k * inputs * cells);
  const says = (k) => say(tiled ? "kernel_of" : "row_of", { index: k, count });
  const addresses = (...index) => indices(weight.notation, letters(weight, index));
  const said = readout();
  const numbers = (k) => {
    const [low, high] = ends();
    const of = (place) => written(addresses(k, input, ...unravelled(place, spatial)));
    const values = held.values.subarray(startOf(k), startOf(k) + cells);
    return grid({ caption: say("numbers"), values, shape: tileShape(spatial), table, low, high, heads: true, of });
  };
  const show = (k) => said.show({
    title: says(k),
    notation: addresses(...(tiled ? [k, input] : [k])),
    statistics: moments.values.subarray(k * 5, k * 5 + 5),
    of: tiled && inputs > 1 ? say("over_all_inputs", { count: inputs }) : null,
    beside: tiled && weight.exact ? numbers(k) : null,
  });
  const parts = [el("h4", {}, weight.name)];
  let [mosaic, choice] = [null, null];
  const scale = el("div");
  const relabel = () => {
    const shown = (run) => { for (let k = 0; k < count; k++) run(startOf(k), startOf(k) + (tiled ? cells : inputs * cells)); };
    scale.replaceChildren(scaleBar("weights", ends(), extent(held.values, shown)));
  };
  const choose = (wanted) => {
    if (choice === null || !Number.isInteger(wanted) || wanted < 0 || wanted >= inputs || wanted === input) return;
    input = wanted;
    if (document.activeElement !== choice) choice.value = wanted;
    mosaic.repaint();
    relabel();
    show(mosaic.chosen);
  };
  if (held === null) {
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
        return { start: startOf(k), low, high };
      },
      source: async () => ({ values: held.values, table }),
      show: (k) => { show(k); tell(k, input); },
    });
    relabel();
    if (tiled && inputs > 1) {
      choice = el("input", { type: "number", min: 0, max: inputs - 1, value: 0 });
      choice.addEventListener("input", () => {
        choose(choice.valueAsNumber);
        tell(mosaic.chosen, input);
      });
      parts.push(el("label", { className: "choice" }, say("input_channel"), choice, el("span", { className: "of" }, say("to", { last: inputs - 1 }))));
    }
    parts.push(mosaic.element, scale);
    if (!weight.exact) parts.push(el("p", { className: "note" }, say("levels_only")));
  }
  show(0);
  parts.push(said.element);
  return {
    element: el("div", { className: "kernels" }, ...parts),
    show: (k, c = input) => {
      if (mosaic === null || k >= count) return;
      choose(c);
      mosaic.show(k);
      show(k);
    },
  };
}

// Of what is drawn the smallest and the largest number and how many are none, as a scale takes them; of levels the last.
function extent(values, shown) {
  let [low, high, broken] = [Infinity, -Infinity, 0];
  const isLevels = values instanceof Uint8Array;
  shown((from, to) => {
    for (let at = from; at < to; at++) {
      const value = values[at];
      if (isLevels ? value > data.colours.levels : !Number.isFinite(value)) broken++;
      else [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
  });
  return [NaN, NaN, ...(isLevels ? [NaN, NaN] : [low, high]), broken];
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
