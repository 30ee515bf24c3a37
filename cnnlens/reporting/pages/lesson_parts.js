// Small parts that several chapters have: a tile of numbers as a picture, one of several to choose, the four pictures.

import { colours, painted } from "./colour.js";
import { data, el, say } from "./dom.js";
import { pictureOf } from "./inputs.js";
import { choose, chosen, follow } from "./state.js";

// A canvas with a pixel a number, enlarged by CSS: `values` from `start`, between `ends`, in the colours of `name`.
export function tile(values, start, [height, width], [low, high], name, side = 72) {
  const canvas = el("canvas", { className: "tile", width, height, attributes: { "aria-hidden": "true" } });
  canvas.style.width = `${side}px`;
  canvas.style.aspectRatio = `${width} / ${height}`;
  colours(name).then((table) => canvas.getContext("2d").putImageData(
    painted(values, table, 0, 1, { height, width }, () => ({ start, low, high })), 0, 0,
  ));
  return canvas;
}

let groups = 0;

// One of several, as radio buttons that look like a row of buttons. Calls `pick(place)` when another is chosen.
export function switchOf(label, options, first, pick) {
  const name = `switch-${groups++}`;
  const buttons = options.map((_, place) => {
    const button = el("input", { type: "radio", name, checked: place === first });
    button.addEventListener("change", () => pick(place));
    return button;
  });
  const element = el(
    "fieldset", { className: "switch" }, el("legend", {}, label),
    ...options.map((option, place) => el("label", {}, buttons[place], el("span", {}, ...[option].flat()))),
  );
  return { element, show: (place) => { buttons[place].checked = true; } };
}

export const inputName = () => Object.keys(data.inputs.arrays)[0];

async function paintPicture(canvas, example) {
  const image = await pictureOf(inputName(), example);
  Object.assign(canvas, { width: image.width, height: image.height });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// The choice of a picture, which all chapters share.
export function pictureSwitch() {
  const options = data.inputs.labels.map((label, example) => {
    const canvas = el("canvas", { attributes: { "aria-hidden": "true" } });
    paintPicture(canvas, example);
    return [canvas, label];
  });
  const made = switchOf(say("lesson.picture"), options, chosen.example, choose);
  made.element.classList.add("pictures");
  follow(() => made.show(chosen.example));
  return made.element;
}

// The picture that is chosen, with a frame of `side` pixels at a place.
export function framed(size) {
  const canvas = el("canvas", { attributes: { "aria-hidden": "true" } });
  const frame = el("div", { className: "frame" });
  const element = el("div", { className: "framed" }, canvas, frame);
  const paint = () => paintPicture(canvas, chosen.example);
  paint();
  follow(paint);
  return {
    element,
    frame: (row, column, side) => {
      const part = (pixels) => `${(pixels / size) * 100}%`;
      Object.assign(frame.style, { left: part(column), top: part(row), width: part(side), height: part(side) });
    },
  };
}
