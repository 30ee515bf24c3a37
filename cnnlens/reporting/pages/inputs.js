// The inputs whose feature maps the page has, and the switch between them, which the bar on top has too.

import { colours, painted, placeOf, put } from "./colour.js";
import { data, el, say } from "./dom.js";
import { choose, chosen, follow } from "./state.js";
import { unpack } from "./unpack.js";

export function drawInputs() {
  const section = document.getElementById("inputs");
  section.hidden = false;
  if (data.inputs === null) {
    section.append(el("p", { className: "note" }, say("no_inputs")));
    return;
  }
  const { count, labels, notes, arrays } = data.inputs;
  const [name, first] = Object.entries(arrays)[0];
  const choices = Array.from({ length: count }, (_, example) => {
    const button = el("button", { type: "button", attributes: { role: "radio" } });
    const canvas = el("canvas", { attributes: { "aria-hidden": "true" } });
    if (first.view === "picture") {
      pictureOf(name, example).then((image) => {
        Object.assign(canvas, { width: image.width, height: image.height });
        canvas.getContext("2d").putImageData(image, 0, 0);
      });
      button.append(canvas);
    }
    button.append(el("span", {}, labels[example] ?? String(example)));
    button.addEventListener("click", () => choose(example));
    return button;
  });
  const group = el("div", { className: "inputs", attributes: { role: "radiogroup", "aria-label": say("input") } }, ...choices);
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose((chosen.example + step + count) % count);
    choices[chosen.example].focus();
  });
  const named = labels.slice(0, count).map((label, value) => el("option", { value }, label));
  const switcher = el("select", { attributes: { "aria-label": say("input") } }, ...named);
  switcher.addEventListener("change", () => choose(Number(switcher.value)));
  if (count > 1) document.querySelector(".bar .what").after(el("label", { className: "example" }, el("span", {}, say("input")), switcher));
  const mark = () => {
    switcher.value = chosen.example;
    choices.forEach((button, example) => {
      button.setAttribute("aria-checked", example === chosen.example);
      button.tabIndex = example === chosen.example ? 0 : -1;
    });
  };
  mark();
  follow(mark);
  section.append(group, ...notes.map((note) => el("p", { className: "note" }, note)));
}

// One example of an input as a picture, a pixel a number: grey, in colour where it has three channels.
export async function pictureOf(name, example) {
  const { array, limits } = data.inputs.arrays[name];
  const [{ values, shape }, table] = await Promise.all([unpack(array), colours("grey")]);
  const [, channels, height, width] = shape;
  const [low, high] = limits[example];
  const start = example * channels * height * width;
  let image = painted(values, table, 0, 1, { height, width }, () => ({ start, low, high }));
  if (channels === 3) {
    image = new ImageData(width, height);
    for (let pixel = 0; pixel < height * width; pixel++) {
      const rgb = [0, 1, 2].map((c) => placeOf(values, start + c * height * width + pixel, low, high));
      put(image.data, pixel, table, Math.max(...rgb) < 0 || Math.min(...rgb) < 0 ? Math.min(...rgb) : 0);
      if (Math.min(...rgb) >= 0) rgb.forEach((place, c) => { image.data[pixel * 4 + c] = table[place * 3]; });
    }
  }
  return image;
}
