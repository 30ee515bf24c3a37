// One number a channel, as bars about zero.

import { el, svg } from "./dom.js";
import { picker } from "./picker.js";

const WIDTH = 560;
const HEIGHT = 120;

export class Bars {
  constructor({ label, count, says, show }) {
    this.count = count;
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.element = el("div", { className: "bars-plot" }, this.drawing);
    this.picker = picker(this.element, {
      label, count, says,
      columns: () => 1,
      at: (x) => Math.floor((x / this.element.clientWidth) * count),
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
    if (!this.values) return;
    const finite = [...this.values].map((value) => (Number.isFinite(value) ? value : 0));
    const low = Math.min(0, ...finite);
    const high = Math.max(0, ...finite, low < 0 ? 0 : 1e-300);
    const y = (value) => ((high - value) / (high - low)) * (HEIGHT - 2) + 1;
    const pitch = WIDTH / this.count;
    const bar = (value, k) => `M${(k + 0.12) * pitch} ${y(0)}V${y(value)}h${pitch * 0.76}V${y(0)}Z`;
    this.drawing.replaceChildren(
      svg("path", { class: "bar", d: finite.map(bar).join("") }),
      svg("path", { class: "bar chosen", d: bar(finite[this.chosen], this.chosen) }),
      svg("path", { class: "zero", d: `M0 ${y(0)}H${WIDTH}` }),
    );
  }
}
