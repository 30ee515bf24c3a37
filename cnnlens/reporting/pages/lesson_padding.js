// `same` at stride 2: where each framework puts its zeros, and what that does to a picture.

import { el, svg } from "./dom.js";
import { options, typed } from "./lesson_exercise.js";
import { switchOf, tile } from "./lesson_parts.js";
import { unpack } from "./unpack.js";

const CELL = 30;
const NAMES = { keras: "Keras", torch: "PyTorch padding=1" };

export function paddingChapter(tell, { axis, cases, maps }) {
  const drawing = el("div", { className: "axes", attributes: { "aria-live": "polite" } });
  const most = Math.max(...axis.map(({ size }) => size));
  const show = (place) => {
    const { size, same } = axis[place];
    const alike = same[0] === 1 && same[1] === 1;
    drawing.replaceChildren(
      ...[["keras", same], ["torch", [1, 1]]].map(([name, pads]) => el(
        "div", {}, el("p", { className: "label" }, `${NAMES[name]}: ${tell("zeros", { before: pads[0], behind: pads[1] })}`), axisOf(size, pads, most, `${NAMES[name]}, n = ${size}`),
      )),
      el("p", { className: alike ? "verdict good" : "verdict bad" }, tell(alike ? "agree" : "differ")),
    );
  };
  const first = axis.findIndex(({ size }) => size === 8);
  show(first);
  const choice = switchOf(tell("size"), axis.map(({ size }) => String(size)), first, show);
  const tiles = el("div", { className: "tiles trio" });
  Promise.all(maps.map(({ array }) => unpack(array))).then((found) => tiles.append(...found.map(({ values, shape }, place) => {
    const { name, ends } = maps[place];
    const canvas = tile(values, 0, shape, ends, name === "difference" ? "weights" : "activations", 154);
    return el("div", {}, canvas, el("p", { className: "label" }, NAMES[name] ?? tell("difference")));
  })));
  return {
    figures: [
      { element: el("div", {}, choice.element, drawing), caption: tell("caption") },
      { element: tiles, caption: tell("caption_maps") },
    ],
    tasks: {
      zeros: (random) => zerosTask(tell, cases, random),
      torch: (random) => ({
        question: tell("torch.q"),
        input: options(random.shuffled(["one", "same", "pair", "pad"]).map((key) => ({
          label: tell(`torch.${key}`), right: key === "pad", why: tell(`torch.${key}.why`),
        }))),
        check: (option) => option,
      }),
    },
  };
}

// An axis of `size` pixels with its zeros, and the windows of 3 at stride 2 below it.
function axisOf(size, [before, behind], most, label) {
  const x = (cell) => (cell + 1) * CELL + 1;
  const parts = [];
  for (let cell = -before; cell < size + behind; cell++) {
    const inside = cell >= 0 && cell < size;
    parts.push(svg("rect", { class: inside ? "pixel" : "pixel zero", x: x(cell), y: 1, width: CELL, height: CELL }));
    parts.push(svg("text", { x: x(cell) + CELL / 2, y: 21, "text-anchor": "middle", class: inside ? "" : "zero" }, inside ? String(cell) : "0"));
  }
  const outputs = Math.floor((size + before + behind - 3) / 2) + 1;
  for (let output = 0; output < outputs; output++) {
    const start = x(output * 2 - before);
    const y = CELL + 10 + (output % 2) * 16;
    parts.push(svg("path", { class: `window w${output % 2}`, d: `M${start + 3} ${y - 5}v5h${3 * CELL - 6}v-5` }));
    parts.push(svg("circle", { class: `window w${output % 2}`, cx: start + 1.5 * CELL, cy: y, r: 3 }));
  }
  const box = `0 0 ${(most + 2) * CELL + 2} ${CELL + 34}`;
  return svg("svg", { viewBox: box, role: "img", "aria-label": label, class: "axis" }, ...parts);
}

function zerosTask(tell, cases, random) {
  const { size, kernel, stride, same: [answer, behind] } = random.pick(cases);
  const outputs = Math.ceil(size / stride);
  const fixed = Math.floor(kernel / 2);
  const mistakes = [["behind", behind], ["all", answer + behind], ["fixed", fixed]];
  return {
    again: true,
    question: tell("zeros.q", { size, kernel, stride }),
    input: typed(),
    check: (value) => {
      const places = { value, outputs, total: answer + behind, answer, stride, kernel, size, end: (outputs - 1) * stride + kernel };
      if (value === answer) return { right: true, why: tell("zeros.right", places) };
      const [why] = mistakes.find(([, wrong]) => wrong === value) ?? ["other"];
      return { right: false, why: tell(`zeros.${why}`, places) };
    },
  };
}
