// The maps of both layers, and what a pixel of them sees of the picture.

import { colours } from "./colour.js";
import { data, el } from "./dom.js";
import { number } from "./format.js";
import { options, typed } from "./lesson_exercise.js";
import { framed, inputName, pictureSwitch, tile } from "./lesson_parts.js";
import { Mosaic } from "./mosaic.js";
import { picker } from "./picker.js";
import { chosen, follow } from "./state.js";
import { unpack } from "./unpack.js";

const PICTURE = 28;

export function depthChapter(tell, { layers }) {
  const edge = data.chapters.kernel.edges.vertical.kernel;
  return {
    figures: [{
      element: el("div", {}, pictureSwitch(), eyeOf(tell, layers[0], edge), eyeOf(tell, layers[1])), caption: tell("caption"),
    }],
    tasks: { which: (random) => whichTask(tell, layers[0], random), field: (random) => fieldTask(tell, random) },
  };
}

const mapsOf = (name) => {
  const { maps } = data.layers[name];
  const [, count, height, width] = maps.shape;
  return { maps, count, side: width, cells: height * width };
};

function eyeOf(tell, { name, field, step, before }, first) {
  const { maps, count, side, cells } = mapsOf(name);
  const picture = framed(PICTURE);
  const canvas = el("canvas", { width: side, height: side, attributes: { "aria-hidden": "true" } });
  const spot = el("div", { className: "frame" });
  const big = el("div", { className: "framed map" }, canvas, spot);
  const said = el("p", { className: "label", attributes: { "aria-live": "polite" } });
  const state = { map: 0, place: 0 };
  let numbers = null;
  const at = (k) => chosen.example * count + k;
  const ends = (k) => ({ low: numbers.limits[at(k) * 2], high: numbers.limits[at(k) * 2 + 1] });
  const says = (place) => tell("sees", {
    row: Math.floor(place / side), column: place % side,
    value: numbers ? number(numbers.values[at(state.map) * cells + place]) : "",
  });
  const draw = () => {
    if (!numbers) return;
    const { low, high } = ends(state.map);
    const shown = tile(numbers.values, at(state.map) * cells, [side, side], [low, high], "activations", 1);
    colours("activations").then(() => requestAnimationFrame(() => canvas.getContext("2d").drawImage(shown, 0, 0)));
    const [row, column] = [Math.floor(state.place / side), state.place % side];
    const part = (pixels) => `${(pixels / side) * 100}%`;
    Object.assign(spot.style, { left: part(column), top: part(row), width: part(1), height: part(1) });
    picture.frame(row * step + before, column * step + before, field);
    said.textContent = `${tell("map", { index: state.map, count })} \u00b7 ${says(state.place)}`;
    pick.set(state.place);
  };
  const pick = picker(big, {
    label: tell("pixel"), count: side * side, columns: () => side, says,
    at: (x, y) => {
      const pixel = big.clientWidth / side;
      const [row, column] = [y, x].map((place) => Math.min(side - 1, Math.max(0, Math.floor(place / pixel))));
      return row * side + column;
    },
    show: (place) => { state.place = place; draw(); },
  });
  const mosaic = new Mosaic({
    label: tell("mosaic", { layer: name }), count, shape: { height: side, width: side },
    says: (k) => tell("map", { index: k, count }),
    tile: (k) => ({ start: at(k) * cells, ...ends(k) }),
    source: async () => { await ready; return { values: numbers.values, table: await colours("activations") }; },
    show: (k) => { state.map = k; draw(); },
  });
  const ready = Promise.all([unpack(maps.array), unpack(maps.limits)]).then(([values, limits]) => {
    numbers = { values: values.values, limits: limits.values };
    state.map = first ?? liveliest(numbers.values, count, cells);
    state.place = brightest(numbers.values.subarray(at(state.map) * cells, (at(state.map) + 1) * cells), side);
    mosaic.show(state.map);
    draw();
  });
  follow(() => { mosaic.repaint(); draw(); });
  return el(
    "div", { className: "eye" }, el("h3", {}, el("code", {}, name)), mosaic.element,
    el("div", { className: "pair" }, el("div", { className: "pane" }, picture.element), el("div", { className: "pane" }, big, said)),
  );
}

// The map of the first picture whose numbers differ most: one with something to see.
function liveliest(values, count, cells) {
  const spread = Array.from({ length: count }, (_, k) => {
    const map = values.subarray(k * cells, (k + 1) * cells);
    const mean = map.reduce((sum, one) => sum + one, 0) / cells;
    return map.reduce((sum, one) => sum + (one - mean) ** 2, 0);
  });
  return spread.indexOf(Math.max(...spread));
}

// The largest number of a map that is not near its border, so that the frame is in the picture.
function brightest(map, side) {
  const inside = (place) => [Math.floor(place / side), place % side].every((one) => one > 2 && one < side - 3);
  return map.reduce((best, value, place) => (inside(place) && value > map[best] ? place : best), side * 3 + 3);
}

function whichTask(tell, { name }, random) {
  const { maps, count, side, cells } = mapsOf(name);
  const weight = data.layers[name].weights[0];
  const example = random.whole(0, data.inputs.count - 1);
  const some = random.shuffled([...Array(count).keys()]).slice(0, 4);
  const made = random.pick(some);
  const shown = el("div", { className: "tiles" });
  const kernels = some.map(() => el("span"));
  let values = null;
  const map = (k) => values.subarray((example * count + k) * cells, (example * count + k + 1) * cells);
  Promise.all([
    unpack(maps.array), unpack(maps.limits), unpack(weight.array), unpack(data.inputs.arrays[inputName()].array),
  ]).then(([all, limits, weights, inputs]) => {
    values = all.values;
    const ends = limits.values.subarray((example * count + made) * 2, (example * count + made) * 2 + 2);
    const labelled = (canvas, key) => el("div", {}, canvas, el("p", { className: "label" }, tell(key)));
    shown.append(
      labelled(tile(map(made), 0, [side, side], ends, "activations", 140), "which.map"),
      labelled(tile(inputs.values, example * PICTURE ** 2, [PICTURE, PICTURE], data.inputs.arrays[inputName()].limits[example], "grey", 140), "which.picture"),
    );
    some.forEach((k, place) => kernels[place].append(tile(weights.values, k * 9, [3, 3], data.layers[name].ends, "weights", 48)));
  });
  return {
    again: true,
    question: tell("which.q"),
    figure: shown,
    input: options(some.map((k, place) => ({ k, label: [kernels[place], tell("which.option", { index: k })] }))),
    check: ({ k }) => {
      if (k === made) return { right: true, why: tell("which.right", { index: k }) };
      return { right: false, why: tell("which.why", { index: k, likeness: number(correlation(map(k), map(made)), 2) }) };
    },
  };
}

function correlation(one, other) {
  const away = (values) => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return Array.from(values, (value) => value - mean);
  };
  const [a, b] = [away(one), away(other)];
  const product = (x, y) => x.reduce((sum, value, at) => sum + value * y[at], 0);
  return product(a, b) / Math.sqrt(product(a, a) * product(b, b));
}

function fieldTask(tell, random) {
  const [first, second] = [random.pick([3, 5, 7]), random.pick([3, 5])];
  const pool = random.pick([2, 3]);
  const answer = first + (pool - 1) + (second - 1) * pool;
  const mistakes = [["last", second], ["no_pool", first + second - 1], ["no_step", first + pool - 1 + second - 1]];
  return {
    again: true,
    question: tell("field.q", { first, second, pool }),
    input: typed(),
    check: (value) => {
      const places = { value, first, second, pool, answer };
      if (value === answer) return { right: true, why: tell("field.right", places) };
      const [why] = mistakes.find(([, wrong]) => wrong === value) ?? ["other"];
      return { right: false, why: tell(`field.${why}`, places) };
    },
  };
}
