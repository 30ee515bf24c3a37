// What a kernel is: it slides over a picture, and the map fills up.

import { colours, placeOf, put } from "./colour.js";
import { data, el } from "./dom.js";
import { number } from "./format.js";
import { typed } from "./lesson_exercise.js";
import { framed, inputName, pictureSwitch } from "./lesson_parts.js";
import { Mosaic } from "./mosaic.js";
import { picker } from "./picker.js";
import { chosen, follow } from "./state.js";
import { unpack } from "./unpack.js";

const SIDE = 28;
const LAYER = "conv2d";

export function kernelChapter(tell, { edges }) {
  return {
    figures: [{ element: slide(tell, edges.horizontal.kernel), caption: tell("caption") }],
    tasks: { sum: (random) => sumTask(tell, random), pixel: (random) => pixelTask(tell, random) },
  };
}

function slide(tell, first) {
  const picture = framed(SIDE);
  const grids = ["patch", "weights", "products"].map((key) => gridOf(tell(key)));
  const sums = el("dl", { className: "sums" });
  const map = el("canvas", { width: SIDE, height: SIDE, attributes: { "aria-hidden": "true" } });
  const at = el("div", { className: "frame" });
  const name = el("p", { className: "label" });
  const state = { kernel: first, place: 9 * SIDE + 13, done: new Set(), timer: null };
  let numbers = null;
  let pick = null;

  const taps = (place) => {
    const [row, column] = [Math.floor(place / SIDE), place % SIDE];
    const from = chosen.example * SIDE * SIDE;
    const patch = [];
    for (let y = row - 1; y <= row + 1; y++) {
      for (let x = column - 1; x <= column + 1; x++) {
        const inside = y >= 0 && y < SIDE && x >= 0 && x < SIDE;
        patch.push(inside ? numbers.picture[from + y * SIDE + x] : 0);
      }
    }
    const weights = [...numbers.kernels.subarray(state.kernel * 9, state.kernel * 9 + 9)];
    const products = patch.map((pixel, tap) => pixel * weights[tap]);
    const sum = products.reduce((total, one) => total + one, 0);
    const bias = numbers.bias[state.kernel];
    return { patch, weights, products, sum, bias, total: sum + bias, result: Math.max(0, sum + bias) };
  };
  const ends = () => numbers.limits.subarray(...[0, 2].map((end) => (chosen.example * numbers.count + state.kernel) * 2 + end));
  const paint = () => {
    const image = map.getContext("2d").createImageData(SIDE, SIDE);
    const [low, high] = ends();
    for (const place of state.done) put(image.data, place, numbers.maps, placeOf([taps(place).result], 0, low, high));
    map.getContext("2d").putImageData(image, 0, 0);
  };
  const says = (place) => tell("at", {
    row: Math.floor(place / SIDE), column: place % SIDE, value: numbers ? number(taps(place).result) : "",
  });
  const draw = () => {
    if (!numbers) return;
    state.done.add(state.place);
    const found = taps(state.place);
    grids[0].show(found.patch, numbers.grey, 0, 1);
    grids[1].show(found.weights, numbers.weights, ...numbers.ends);
    const most = Math.max(...numbers.ends.map(Math.abs));
    grids[2].show(found.products, numbers.weights, -most, most);
    sums.replaceChildren(...["sum", "bias", "total", "result"].flatMap((key) => [
      el("dt", {}, tell(key === "result" ? "relu" : key)), el("dd", { className: key }, number(found[key], 4)),
    ]));
    const [row, column] = [Math.floor(state.place / SIDE), state.place % SIDE];
    picture.frame(row - 1, column - 1, 3);
    const part = (pixels) => `${(pixels / SIDE) * 100}%`;
    Object.assign(at.style, { left: part(column), top: part(row), width: part(1), height: part(1) });
    name.textContent = tell("choose", { index: state.kernel, count: numbers.count });
    paint();
    pick.set(state.place);
  };
  const stop = () => {
    clearInterval(state.timer);
    state.timer = null;
    play.textContent = tell("play");
  };
  const fill = () => { stop(); for (let place = 0; place < SIDE * SIDE; place++) state.done.add(place); draw(); };
  const play = el("button", { type: "button" }, tell("play"));
  play.addEventListener("click", () => {
    if (state.timer !== null) { stop(); return; }
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) { fill(); return; }
    play.textContent = tell("stop");
    state.done.clear();
    state.place = 0;
    state.timer = setInterval(() => {
      for (let step = 0; step < 3 && state.place < SIDE * SIDE - 1; step++) state.done.add(++state.place);
      if (state.place === SIDE * SIDE - 1) stop();
      draw();
    }, 30);
  });
  const whole = el("button", { type: "button" }, tell("fill"));
  whole.addEventListener("click", fill);

  const [weight, bias] = data.layers[LAYER].weights;
  const [count] = data.arrays[weight.array].shape;
  pick = picker(picture.element, {
    label: tell("caption"), count: SIDE * SIDE, columns: () => SIDE, says,
    at: (x, y) => {
      const pixel = picture.element.clientWidth / SIDE;
      const [row, column] = [y, x].map((place) => Math.min(SIDE - 1, Math.max(0, Math.floor(place / pixel))));
      return row * SIDE + column;
    },
    show: (place) => { stop(); state.place = place; draw(); },
  });
  const mosaic = new Mosaic({
    label: tell("weights"), count, shape: { height: 3, width: 3 },
    says: (k) => tell("choose", { index: k, count }),
    tile: (k) => ({ start: k * 9, low: numbers.ends[0], high: numbers.ends[1] }),
    source: async () => { await ready; return { values: numbers.kernels, table: numbers.weights }; },
    show: (k) => { state.kernel = k; again(); },
  });
  const again = () => { stop(); draw(); };
  follow(again);
  const ready = Promise.all([
    unpack(data.inputs.arrays[inputName()].array), unpack(weight.array), unpack(bias.array),
    unpack(data.layers[LAYER].maps.limits), unpack(data.layers[LAYER].maps.array), colours("grey"), colours("weights"),
    colours("activations"),
  ]).then(([shown, kernels, biases, limits, made, grey, weights, maps]) => {
    numbers = {
      picture: shown.values, kernels: kernels.values, bias: biases.values, ends: data.layers[LAYER].ends, limits: limits.values,
      count, grey, weights, maps,
    };
    mosaic.show(first);
    state.place = largestOf(made.values.subarray(first * SIDE * SIDE, (first + 1) * SIDE * SIDE));
    for (let place = 0; place < state.place; place++) state.done.add(place); // as if it had come so far
    draw();
  });
  const sign = (text) => el("span", { className: "sign", attributes: { "aria-hidden": "true" } }, text);
  return el(
    "div", { className: "slide" }, pictureSwitch(),
    el(
      "div", { className: "pair" }, el("div", { className: "pane" }, picture.element),
      el("div", { className: "pane" }, el("div", { className: "framed map" }, map, at), el("p", { className: "label" }, tell("map"))),
    ),
    el("p", { className: "buttons" }, play, whole),
    el(
      "div", { className: "worked" },
      el("div", { className: "grids" }, grids[0].element, sign("\u00d7"), grids[1].element, sign("="), grids[2].element), sums,
    ),
    name, mosaic.element,
  );
}

const largestOf = (values) => values.indexOf(Math.max(...values));

// Nine numbers with their colours.
function gridOf(label) {
  const cells = Array.from({ length: 9 }, () => el("span"));
  const element = el("div", { className: "nine" }, el("div", { className: "cells" }, ...cells), el("p", { className: "label" }, label));
  const show = (values, table, low, high) => values.forEach((value, tap) => {
    cells[tap].textContent = Number.isInteger(value) ? number(value) : value.toFixed(2).replace("-", "\u2212");
    if (table) tint(cells[tap], table, placeOf([value], 0, low, high));
  });
  return { element, show };
}

function tint(cell, table, place) {
  const [red, green, blue] = table.subarray(place * 3, place * 3 + 3);
  cell.style.background = `rgb(${red} ${green} ${blue})`;
  cell.style.color = 0.3 * red + 0.59 * green + 0.11 * blue > 140 ? "#111" : "#fff";
}

function sumTask(tell, random) {
  const patch = Array.from({ length: 9 }, () => random.whole(0, 4));
  const kernel = random.pick([[1, 1, 1, 0, 0, 0, -1, -1, -1], [1, 0, -1, 2, 0, -2, 1, 0, -1], [0, 1, 0, 1, -4, 1, 0, 1, 0],
    [2, 1, 0, 1, 0, -1, 0, -1, -2], [0, -1, 0, -1, 3, -1, 0, 0, 1]]);
  const bias = random.pick([-3, -2, 2, 3, 4]);
  const products = patch.map((pixel, tap) => pixel * kernel[tap]);
  const add = (values) => values.reduce((total, one) => total + one, 0);
  const sum = add(products);
  const total = sum + bias;
  const answer = Math.max(0, total);
  if (sum === 0 || total === 0) return sumTask(tell, random); // a mistake would give the same
  const grids = [[patch, tell("patch")], [kernel, tell("weights")]].map(([values, label]) => {
    const grid = gridOf(label);
    grid.show(values, null);
    return grid.element;
  });
  const mistakes = [
    ["flipped", Math.max(0, add(patch.map((pixel, tap) => pixel * kernel[8 - tap])) + bias)],
    ["no_relu", total], ["no_bias", sum], ["no_bias", Math.max(0, sum)], ["no_kernel", add(patch) + bias], ["no_kernel", add(patch)],
  ];
  return {
    again: true,
    question: tell("sum.q", { bias: number(bias) }),
    figure: el("div", { className: "grids" }, grids[0], el("span", { className: "sign" }, "\u00d7"), grids[1]),
    input: typed(),
    check: (value) => {
      const places = {
        value: number(value), bias: number(bias), sum: number(sum), total: number(total), answer: number(answer),
        products: products.map((one) => number(one)).join(", "),
      };
      if (value === answer) return { right: true, why: tell("sum.right", places) };
      const [why] = mistakes.find(([, wrong]) => wrong === value) ?? ["other"];
      return { right: false, why: tell(`sum.${why}`, places) };
    },
  };
}

function pixelTask(tell, random) {
  const size = 7;
  const [row, column] = [random.whole(1, size - 2), random.whole(1, size - 2)];
  const inside = (place) => Math.abs(Math.floor(place / size) - row) < 2 && Math.abs((place % size) - column) < 2;
  const grid = (mark) => Array.from({ length: size * size }, (_, place) => el("span", { className: mark(place) ? "under" : "" }));
  const map = el("div", { className: "grid choosable" }, ...grid(() => false));
  let value = null;
  const set = (place) => {
    value = place;
    [...map.children].forEach((cell, other) => cell.classList.toggle("chosen", other === place));
  };
  const pick = picker(map, {
    label: tell("map"), count: size * size, columns: () => size,
    says: (place) => tell("at", { row: Math.floor(place / size), column: place % size, value: "" }),
    at: (x, y) => Math.floor((y / map.clientHeight) * size) * size + Math.floor((x / map.clientWidth) * size),
    show: set,
    hover: false,
  });
  map.addEventListener("focus", () => { if (value === null) { set(0); pick.set(0); } });
  return {
    again: true,
    question: tell("pixel.q", { top: row - 1, bottom: row + 1, left: column - 1, end: column + 1 }),
    figure: null,
    input: {
      element: el(
        "div", { className: "pair" },
        el("div", {}, el("div", { className: "grid", attributes: { "aria-hidden": "true" } }, ...grid(inside)), el("p", { className: "label" }, tell("patch"))),
        el("div", {}, map, el("p", { className: "label" }, tell("map"))),
      ),
      read: () => value,
    },
    check: (place) => {
      const corner = place === (row - 1) * size + column - 1;
      const right = place === row * size + column;
      const why = right ? "right" : corner ? "corner" : inside(place) ? "inside" : "outside";
      return { right, why: tell(`pixel.${why}`, { row, column }) };
    },
  };
}
