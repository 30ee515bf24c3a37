// Where the page has the numbers of a tensor: a network's input, or a layer's feature maps.

import { colours } from "./colour.js";
import { data } from "./dom.js";
import { chosen } from "./state.js";
import { unpack } from "./unpack.js";

const named = new Map(data.layers.flatMap((layer) => layer.maps.map((maps) => [maps.tensor, maps])));

// What the page has of it: { array, exact, shape }, `array` null where it has no numbers of it.
export function tensorNamed(name) {
  const input = data.inputs === null ? undefined : data.inputs.arrays[name];
  if (input !== undefined) return { array: input.array, exact: true, shape: data.arrays[input.array].shape, limits: input.limits };
  return named.get(name) ?? { array: null, exact: false, shape: null };
}

// Its numbers for the chosen input: { values, start, cells, count }, channel c being at start + c cells; of each channel
// ends(c) of its colours and moments(c); the name of the `colours`, and their `table`.
export async function numbersOf(tensor) {
  const { values } = await unpack(tensor.array);
  const [, count, ...spatial] = tensor.shape;
  const cells = spatial.reduce((product, size) => product * size, 1);
  const { example } = chosen;
  const common = { values, count, cells, start: example * count * cells };
  if (Array.isArray(tensor.limits)) { // an input
    return { ...common, ends: () => tensor.limits[example], moments: () => null, colours: "grey", table: await colours("grey") };
  }
  const [limits, moments] = await Promise.all([unpack(tensor.limits), unpack(tensor.statistics)]);
  const of = ({ values: all }, c, size) => all.subarray((example * count + c) * size, (example * count + c + 1) * size);
  const name = tensor.signed[example] ? "weights" : "activations";
  return { ...common, ends: (c) => of(limits, c, 2), moments: (c) => of(moments, c, 5), colours: name, table: await colours(name) };
}
