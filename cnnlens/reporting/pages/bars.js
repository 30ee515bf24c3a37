// One number a channel, as bars about zero.

import { el, svg } from "./dom.js";
import { number } from "./format.js";
import { picker } from "./picker.js";

const WIDTH = 560;
const HEIGHT = 120;

export class Bars {
  constructor({ label, count, says, show }) {
    this.count = count;
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.ends = el("div", { className: "ends", attributes: { "aria-hidden": "true" } });
    this.element = el("div", { className: "bars-plot" }, this.drawing, this.ends);
    this.picker = picker(this.element, {
      label, count, says,
      columns: () => 1,
      at: (x) => Math.floor((x / this.drawing.clientWidth) * count),
      show: (index) => { this.show(index); show(index); },
    });
    this.chosen = 0;
  }

  show(index) {
    this.chosen = index;
    this.picker.set(index);
    this.draw();
  }

  // The numbers of the bars, as many as were said.
  set(values) {
    this.values = values;
    this.show(this.chosen);
  }

  draw() {
    const { values, count } = this;
    if (!values) return;
    let [low, high] = [0, 0];
    for (const value of values) if (Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
    const y = (value) => ((high - value) / (high - low || 1)) * (HEIGHT - 2) + 1;
    const pitch = WIDTH / count;
    const gap = pitch > 3 ? 0.12 : 0;
    const box = (from, to, left, wide) => `M${left} ${y(from)}V${y(to)}h${wide}V${y(from)}Z`;
    const bar = (k, wide) => box(0, values[k], (k + gap) * pitch, wide);
    const [bars, broken] = [[], []];
    const each = Math.max(1, count / WIDTH); // numbers in a column of the drawing: of several their range is drawn
    for (let from = 0; from < count; from += each) {
      let [least, most] = [0, 0];
      for (let k = Math.floor(from); k < Math.min(from + each, count); k++) {
        if (!Number.isFinite(values[k])) broken.push(`M${k * pitch} 0h${Math.max(pitch, 2)}v${HEIGHT}h-${Math.max(pitch, 2)}Z`);
        else [least, most] = [Math.min(least, values[k]), Math.max(most, values[k])];
      }
      bars.push(box(least, most, (from + gap) * pitch, pitch * each * (1 - 2 * gap)));
    }
    this.drawing.replaceChildren(
      svg("path", { class: "at", d: `M${(this.chosen + 0.5) * pitch} 0V${HEIGHT}` }),
      svg("path", { class: "bar", d: bars.join("") }), svg("path", { class: "bar broken", d: broken.join("") }),
      svg("path", { class: "bar chosen", d: Number.isFinite(values[this.chosen]) ? bar(this.chosen, Math.max(pitch * (1 - 2 * gap), 2)) : "" }),
      svg("path", { class: "zero", d: `M0 ${y(0)}H${WIDTH}` }),
    );
    this.ends.replaceChildren(el("span", {}, high > 0 ? number(high) : ""), el("span", {}, low < 0 ? number(low) : ""));
  }
}
