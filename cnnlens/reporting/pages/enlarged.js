// One map, enlarged, with boxes drawn on it. A reader may choose one of its numbers.

import { painted } from "./colour.js";
import { el } from "./dom.js";
import { picker } from "./picker.js";

const SIDE = 196; // pixels that the longer side is enlarged to

export class Enlarged {
  // shape: { slices, height, width }; pick: { label, says, show } as a picker takes them, or null
  constructor(shape, pick = null) {
    this.shape = shape;
    this.canvas = el("canvas", { attributes: { "aria-hidden": "true" } });
    this.veil = el("div", { className: "veil" });
    this.marks = el("div", { className: "marks" });
    this.element = el("div", { className: "enlarged" }, this.canvas, this.veil, this.marks);
    const across = shape.width * shape.slices;
    const scale = SIDE / Math.sqrt(shape.slices) / Math.max(shape.width, shape.height);
    this.element.style.width = `${across * scale}px`;
    this.element.style.aspectRatio = `${across} / ${shape.height}`;
    const bounds = { top: 0, left: 0, bottom: shape.height, right: shape.width };
    if (shape.slices > 1) this.mark("slice", Array.from({ length: shape.slices }, (_, slice) => ({ slice, ...bounds })));
    if (pick === null) return;
    this.element.classList.add("pick");
    this.picker = picker(this.element, {
      ...pick,
      count: across * shape.height,
      columns: () => shape.width,
      at: (x, y) => this.at(x / this.element.clientWidth, y / this.element.clientHeight),
    });
  }

  at(x, y) {
    const { slices, height, width } = this.shape;
    const [column, row] = [Math.floor(x * width * slices), Math.floor(y * height)];
    if (column < 0 || row < 0 || column >= width * slices || row >= height) return -1;
    return (Math.floor(column / width) * height + row) * width + (column % width);
  }

  // The numbers from `start` on, in the colours of `table`; or whatever `image` there is of them.
  paint(values, table, start, low, high) {
    this.put(painted(values, table, 0, 1, this.shape, () => ({ start, low, high })));
  }

  put(image) {
    this.canvas.width = image.width;
    this.canvas.height = image.height;
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }

  // Boxes, each { slice, top, left, bottom, right } in numbers of the map, the last ones not in it; `name` is their class.
  // `veiled`: whether all the rest is darkened.
  mark(name, boxes, veiled = false) {
    for (const old of this.element.querySelectorAll(`.${name}`)) old.remove();
    for (const box of boxes) {
      this.marks.append(this.laid(name, box));
      if (veiled) this.veil.append(this.laid(name, box));
    }
  }

  laid(name, { slice, top, left, bottom, right }) {
    const [x, y] = [100 / (this.shape.width * this.shape.slices), 100 / this.shape.height];
    const box = el("div", { className: name });
    box.style.left = `${(slice * this.shape.width + left) * x}%`;
    box.style.top = `${top * y}%`;
    box.style.width = `${(right - left) * x}%`;
    box.style.height = `${(bottom - top) * y}%`;
    return box;
  }
}

// The boxes of what lies from `first` to `last` (the last one in it) on each spatial axis, one a slice.
export function boxesOf(first, last) {
  const [from, to] = [first, last].map((ends) => [...Array(3 - ends.length).fill(0), ...ends]);
  if (to.some((end, axis) => end < from[axis])) return [];
  return Array.from({ length: to[0] - from[0] + 1 }, (_, number) => ({
    slice: from[0] + number, top: from[1], left: from[2], bottom: to[1] + 1, right: to[2] + 1,
  }));
}
