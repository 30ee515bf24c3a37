// The terms of a sum, the activation of it, and what the reference has in its place.

import { activated } from "./arithmetic.js";
import { el, say } from "./dom.js";
import { number } from "./format.js";

const DIGITS = 6;

//   reference: null where the page has no exact number of it
export function sumOf({ terms, total, totals }, activation, k, reference) {
  const parts = terms.map(([value, what], at) => {
    if (!at) return term(number(value, DIGITS), what);
    return term(`${value < 0 ? "\u2212" : "+"} ${number(Math.abs(value), DIGITS)}`, what);
  });
  if (terms.length > 1) parts.push(term(`= ${number(total, DIGITS)}`, say("sum")));
  const made = activated(activation, total, k, totals);
  if (activation !== null) {
    parts.push(made === null
      ? term("\u2192", say("not_in_page", { name: activation.name }))
      : term(`\u2192 ${number(made, DIGITS)}`, activation.name));
  }
  const held = reference === null ? say("reference_levels") : say("reference_has", { value: number(reference, DIGITS) });
  const computed = made === null ? null : say("computed_here", { value: number(made, DIGITS) });
  return [
    el("p", { className: "terms" }, ...parts),
    el(
      "p", { className: "held" }, computed && el("data", { className: "computed", value: String(made) }, computed), " ",
      el("data", { className: "reference", value: String(reference) }, held),
    ),
  ];
}

const term = (value, what) => el("span", { className: "term" }, el("b", {}, value), el("small", {}, what));
