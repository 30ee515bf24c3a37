// What is said of the tile that is chosen: its index as each framework writes it, its numbers, its statistics.

import { el, say } from "./dom.js";
import { number } from "./format.js";

const NAMES = { canonical: "canonical", keras: "Keras", torch: "PyTorch" };
const STATISTICS = ["mean", "std", "min", "max"];

// The index of a part of an array in each framework's own axes: `kernel[:, :, 0, 5]`.
//   notation: what the page's data say of the array; index: by letter of an axis, those that are not whole
export function indices(notation, index) {
  return notation.map(({ framework, name, axes, strides, steps, sizes }) => {
    const shown = axes.map((letters, axis) => {
      const known = letters.filter((letter) => letter in index);
      if (letters.length && !known.length) return ":";
      const from = letters.reduce((sum, letter) => sum + (index[letter] ?? 0) * steps[letter], 0) / strides[axis];
      if (known.length === letters.length) return String(from);
      const open = letters.filter((letter) => !(letter in index));
      const inner = letters.slice(-open.length).every((letter) => open.includes(letter));
      const length = open.reduce((product, letter) => product * sizes[letter], 1);
      const step = steps[open.at(-1)] / strides[axis];
      return inner ? `${from}:${from + length}` : `${from}::${step}`;
    });
    return { framework, text: `${name}[${shown.join(", ")}]` };
  });
}

// Those that a framework has, a line each: `Keras kernel[0, 1, 0, 5]`.
export const written = (notation) => notation
  .filter(({ framework }) => framework !== "canonical")
  .map(({ framework, text }) => `${NAMES[framework]} ${text}`)
  .join("\n");

// A block that says it, with what is given `beside` it. What is read aloud is the slider's own value.
export function readout() {
  const element = el("div", { className: "readout" });
  const show = ({ title, notation = [], statistics = null, of = null, beside = null, alone = false }) => {
    const lines = notation
      .filter(({ framework }) => framework !== "canonical")
      .map(({ framework, text }) => [el("dt", {}, NAMES[framework]), el("dd", {}, el("code", {}, text))]);
    const keys = statistics === null ? [] : alone ? ["value"] : STATISTICS; // of a number alone the mean is the number
    const facts = keys.map((key, place) => [
      el("dt", {}, say(key)), el("dd", { className: "number" }, number(statistics[place])),
    ]);
    if (statistics !== null && statistics[4]) {
      facts.push([el("dt", {}, say("broken")), el("dd", { className: "number" }, String(statistics[4]))]);
    }
    element.replaceChildren(...[
      el("p", { className: "title" }, title),
      el("div", { className: "columns" }, beside, el("dl", {}, ...lines.flat()), el("dl", { className: "statistics" }, ...facts.flat())),
      of === null ? null : el("p", { className: "of" }, of),
    ].filter((part) => part !== null));
  };
  return { element, show };
}
