// Rounding beside bugs: effective bits, and what a tolerance would have said.

import { el } from "./dom.js";
import { number } from "./format.js";
import { options, typed } from "./lesson_exercise.js";

const MOST = 24; // bits of float32

export function roundingChapter(tell, { rows, tolerances }) {
  const head = [tell("how"), tell("bits"), tell("error"), ...tolerances.map((one) => tell("close", { tolerance: one })), tell("verdict")];
  const table = el(
    "table", { className: "rounding" },
    el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { attributes: { scope: "col" } }, text)))),
    el("tbody", {}, ...rows.map((row) => rowOf(tell, row))),
  );
  return {
    figures: [{ element: el("div", { className: "wide", tabIndex: 0, attributes: { role: "region", "aria-label": tell("title") } }, table), caption: tell("caption") }],
    tasks: { what: (random) => whatTask(tell, rows, random), digits: (random) => digitsTask(tell, random) },
  };
}

function rowOf(tell, { name, bug, bits, channel_bits: worst, error, close, verdict, says }) {
  const bar = el("span", { className: "share" });
  bar.style.width = `${Math.min(1, bits / MOST) * 100}%`;
  const tick = el("span", { className: "tick", title: tell("worst", { bits: number(worst) }) });
  tick.style.left = `${Math.min(1, worst / MOST) * 100}%`;
  return el(
    "tr", { className: bug ? "bug" : "" },
    el("th", { attributes: { scope: "row" } }, tell(`name.${name}`)),
    el("td", { className: "bits" }, el("span", { className: "track" }, bar, tick), el("span", { className: "number" }, number(bits))),
    el("td", { className: "number" }, number(error, 2)),
    ...close.map((passes) => el("td", { className: passes ? "passes" : "fails" }, passes ? "\u2713 " : "\u2717 ", tell(passes ? "passes" : "fails"))),
    el("td", { className: bug ? "bad" : "good", title: says }, bug ? tell("verdict.wrong") : verdict),
  );
}

const KEYS = { tf32: "tf32", float16: "tf32", bfloat16: "bfloat16", float32: "float32" };

function whatTask(tell, rows, random) {
  const { name, bug, bits, channel_bits: worst } = random.pick(rows);
  const made = bug ? "bug" : KEYS[name];
  return {
    again: true,
    question: tell("what.q", { bits: number(bits), worst: number(worst) }),
    input: options(["float32", "tf32", "bfloat16", "bug"].map((key) => ({
      label: tell(`what.${key}`), right: key === made, why: tell(`what.${key}.${key === made ? "right" : "why"}`),
    }))),
    check: (option) => option,
  };
}

function digitsTask(tell, random) {
  const answer = random.pick([6, 7, 9, 11, 12, 14]);
  const parts = 2 ** answer;
  return {
    again: true,
    question: tell("digits.q", { parts }),
    input: typed(),
    check: (value) => {
      const places = { parts, answer, value };
      if (value === answer) return { right: true, why: tell("digits.right", places) };
      const decimal = Math.abs(value - Math.log10(parts)) < 0.7;
      const why = decimal ? "decimal" : Math.abs(value - answer) === 1 ? "near" : "other";
      return { right: false, why: tell(`digits.${why}`, places) };
    },
  };
}
