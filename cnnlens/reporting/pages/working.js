// How one number of a feature map comes about: the window of the layer's input that it is computed from, times the
// kernel, summed; and what it sees of the network's input.

import { unravelled } from "./arithmetic.js";
import { colours } from "./colour.js";
import { data, el, say, whenNear } from "./dom.js";
import { boxesOf, Enlarged } from "./enlarged.js";
import { fieldOf } from "./field.js";
import { number } from "./format.js";
import { tileShape } from "./kernels.js";
import { methodOf } from "./methods.js";
import { scaleBar } from "./scale.js";
import { chosen, follow } from "./state.js";
import { sumOf } from "./sum.js";
import { numbersOf, tensorNamed } from "./tensors.js";
import { unpack } from "./unpack.js";

const ARRAYS = ["kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"];

// What draws it for one tensor of a layer, once it is `ready`; show(k, c): of map k and, where it is given, of input
// channel c.
//   tell(k, c): is called when an input channel is chosen here
export function workingOf(layer, tensor, tell) {
  const { working } = tensor;
  const spatial = tensor.shape.slice(2);
  const sources = working === null ? [] : [working.of].flat().map(tensorNamed);
  const why = reason(layer, tensor, sources);
  const state = { k: 0, c: 0, place: -1 };
  let have = null; // the numbers of the chosen input

  const at = (place) => have.map.start + state.k * have.map.cells + place;
  const map = spatial.length === 0 ? null : new Enlarged(tileShape(spatial), {
    label: `${say("pixel")}: ${say("arrow_keys")}`,
    says: (place) => `${placeSaid(spatial, place)}${have && tensor.exact ? `: ${number(have.map.values[at(place)], 6)}` : ""}`,
    show: (place) => { state.place = place; draw(); },
  });
  const [mapSaid, scale] = [el("figcaption"), el("div")];
  const field = map && fieldOf(tensor);
  const method = why === null ? methodOf(tensor, sources[0], (c) => { state.c = c; draw(); tell(state.k, c); }) : null;
  const sum = el("div", { className: "sum" });

  async function load() {
    const { example } = chosen;
    const arrays = ARRAYS.map((name) => (method && Number.isInteger(working[name]) ? unpack(layer.weights[working[name]].array) : null));
    const [mapped, inputs, diverging, ...weights] = await Promise.all([
      numbersOf(tensor), Promise.all(method ? sources.map(numbersOf) : []), colours("weights"), ...arrays,
    ]);
    if (example !== chosen.example) return;
    have = { map: mapped, input: inputs[0], inputs, diverging, ...Object.fromEntries(ARRAYS.map((name, at) => [name, weights[at]])) };
    if (state.place < 0 && map) state.place = largest(have.map);
    draw();
  }

  function draw() {
    if (have === null) return;
    const index = unravelled(Math.max(state.place, 0), spatial);
    if (map) {
      map.paint(have.map.values, have.map.table, at(0), ...have.map.ends(state.k));
      map.mark("cursor", boxesOf(index, index));
      scale.replaceChildren(scaleBar(have.map.colours, have.map.ends(state.k), have.map.moments(state.k)));
      map.picker.set(state.place);
      mapSaid.textContent = `${tensor.tensor}, ${placeSaid(spatial, state.place)}`;
      field.show(index);
    }
    const reference = tensor.exact ? have.map.values[at(Math.max(state.place, 0))] : null;
    if (method) sum.replaceChildren(...sumOf(method.compute(have, state, index), working.activation ?? null, state.k, reference));
    else if (tensor.exact) sum.replaceChildren(el("p", { className: "terms" }, el("b", {}, number(reference, 6))));
  }

  const windowed = method && method.window && Object.hasOwn(data.inputs.arrays, working.of); // the window is then what it sees
  const flow = [
    field && !windowed && field.element, method && method.window,
    map && el("figure", {}, map.element, scale, mapSaid),
  ].filter(Boolean);
  const note = why === null ? null : el("p", { className: "note" }, why);
  const element = !flow.length && method === null ? note : el(
    "section", { className: "working" },
    el("h4", { className: "part" }, say("working")),
    map && el("p", { className: "of" }, say("working_help")),
    el("div", { className: "flow" }, ...flow), method && method.numbers, sum, method && method.below,
    note,
  );
  follow(() => {
    have = null;
    sum.replaceChildren(); // no sum of another input stands there meanwhile
    whenNear(element, load);
  });
  return {
    element,
    ready: load(),
    show: (k, c = state.c) => {
      if (k >= tensor.shape[1]) return;
      Object.assign(state, { k, c });
      draw();
    },
  };
}

// Why no sum is computed; null where one is.
function reason(layer, { working }, sources) {
  if (working === null) return say("no_working");
  const names = [working.of].flat();
  const absent = names.find((_, at) => sources[at].array === null);
  if (absent !== undefined) return say("working_absent", { name: absent });
  const weight = Number.isInteger(working.kernel) ? layer.weights[working.kernel] : null;
  if (weight !== null && weight.array === null) return say("working_absent", { name: weight.name });
  const coloured = names.find((_, at) => !sources[at].exact);
  if (coloured !== undefined) return say("working_levels", { name: coloured });
  return weight !== null && !weight.exact ? say("working_levels", { name: weight.name }) : null;
}

// Where the first map has its largest number: more is to be seen there than in a corner.
function largest({ values, start, cells }) {
  let found = 0;
  for (let place = 1; place < cells; place++) if (values[start + place] > values[start + found]) found = place;
  return found;
}

function placeSaid(spatial, place) {
  const index = unravelled(place, spatial);
  const key = ["", "position_at", "pixel_at", "voxel_at"][spatial.length];
  return say(key, { slice: index.at(-3), row: index.at(-2), column: index.at(-1) });
}
