// One number of a feature map computed anew from the numbers in the page, in double precision.
//
// How is what the reference's operation said (`working`, docs/json.md); here is nothing but the arithmetic.

// The cells of an axis of `size` under the taps of the window at `position`; -1 where a tap lies on padding.
export function cellsOf({ taps, stride, gap, before }, position, size, transposed) {
  return Array.from({ length: taps }, (_, tap) => {
    const at = transposed ? (position + before - tap * gap) / stride : position * stride + tap * gap - before;
    return Number.isInteger(at) && at >= 0 && at < size ? at : -1;
  });
}

// Where in a channel of the input each tap of the window lies, in C order; -1 on padding.
//   position, sizes: of the output's number and of the input, on each spatial axis
export function placesOf(working, position, sizes) {
  const transposed = working.how === "transposed";
  return working.axes.reduce(
    (places, axis, number) => {
      const cells = cellsOf(axis, position[number], sizes[number], transposed);
      return places.flatMap((place) => cells.map((cell) => (place < 0 || cell < 0 ? -1 : place * sizes[number] + cell)));
    },
    [0],
  );
}

// The index on each axis of `sizes` of the number at `index` in C order.
export function unravelled(index, sizes) {
  const found = [];
  for (const size of [...sizes].reverse()) {
    found.unshift(index % size);
    index = Math.floor(index / size);
  }
  return found;
}

// What stands for padding: zeros, which are multiplied too and make NaN of infinities, or nothing.
export const paddingOf = ({ how }) => (how === "convolution" ? 0 : null);

// What each input channel adds to output channel k: { first, sums, bias, total }, `first` being the first of them.
//   input: { values, start, cells }, where the example's channels begin and how long one is; kernel: { values, shape }
export function convolved(working, { input, kernel, bias }, k, places) {
  const [outputs, channels] = kernel.shape;
  const first = Math.floor((k * working.groups) / outputs) * channels;
  const sums = new Float64Array(channels);
  const padding = paddingOf(working);
  for (let c = 0; c < channels; c++) {
    const from = input.start + (first + c) * input.cells;
    const taps = (k * channels + c) * places.length;
    for (let tap = 0; tap < places.length; tap++) {
      const value = places[tap] < 0 ? padding : input.values[from + places[tap]];
      if (value !== null) sums[c] += value * kernel.values[taps + tap];
    }
  }
  const added = bias === null ? 0 : bias.values[k];
  return { first, sums, bias: added, total: sums.reduce((total, one) => total + one, 0) + added };
}

// The products of a dense layer's unit k, one for each number of its input: { products, bias, total, weightOf }.
export function multiplied(working, { input, kernel, bias }, k) {
  const [, count] = kernel.shape;
  const weightOf = (index) => kernel.values[k * count + canonicalOf(working.flatten, index)];
  const products = Float64Array.from({ length: count }, (_, index) => input.values[input.start + index] * weightOf(index));
  const added = bias === null ? 0 : bias.values[k];
  return { products, bias: added, total: products.reduce((total, one) => total + one, 0) + added, weightOf };
}

// Where the number at `index` of a map flattened as (*spatial, C) is in the order (C, *spatial).
function canonicalOf(flatten, index) {
  if (flatten === null) return index;
  const channels = flatten.at(-1);
  const positions = flatten.reduce((product, size) => product * size, 1) / channels;
  return (index % channels) * positions + Math.floor(index / channels);
}

// What a batch norm makes of a number of channel k: { terms, total }, each term with what it is.
export function normalised(working, have, k, value) {
  const factor = (have.gamma ? have.gamma.values[k] : 1) / Math.sqrt(have.moving_variance.values[k] + working.epsilon);
  const terms = [[value * factor, "scaled"], [-have.moving_mean.values[k] * factor, "mean_scaled"]];
  if (have.beta) terms.push([have.beta.values[k], "beta"]);
  return { terms, total: terms.reduce((sum, [term]) => sum + term, 0) };
}

// The largest or the mean of the values under a window, padding left out: { value, winner, count }, `winner` being the
// tap of the largest.
export function pooled(working, values) {
  const real = values.filter((value) => value !== null);
  const count = real.length;
  if (working.how === "mean") return { value: real.reduce((sum, one) => sum + one, 0) / count, winner: -1, count };
  const value = Math.max(...real); // NaN where one is
  return { value, winner: values.findIndex((one) => one === value), count };
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const ACTIVATIONS = {
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  exponential: Math.exp,
  relu: (x) => Math.max(x, 0),
  relu6: (x) => Math.min(Math.max(x, 0), 6),
  selu: (x) => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * Math.expm1(x)),
  sigmoid,
  silu: (x) => x * sigmoid(x),
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  tanh: Math.tanh,
};

// The sum after the activation; null where its formula is not here. `totals()` gives the sums of all channels.
export function activated(activation, total, k, totals) {
  if (activation === null) return total;
  if (!activation.in_page) return null;
  if (activation.name !== "softmax") return ACTIVATIONS[activation.name](total);
  const all = totals();
  const most = Math.max(...all);
  return Math.exp(all[k] - most) / all.reduce((sum, one) => sum + Math.exp(one - most), 0);
}
