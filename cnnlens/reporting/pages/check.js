// What a check of backends found: a row a layer, the verdict and the effective bits of each run.

import { data, el } from "./dom.js";
import { number } from "./format.js";

export function drawCheck() {
  if (data.check === null) return;
  const section = document.getElementById("check");
  section.hidden = false;
  const { runs, layers } = data.check;
  const head = el("tr", {}, ...["", "", ...runs.map(({ label }) => label)].map((text) => el("th", {}, text)));
  const rows = layers.map((layer) => el(
    "tr", {}, el("th", {}, layer.name), el("td", {}, layer.kind),
    ...runs.map(({ label }) => cell(layer.runs[label])),
  ));
  const table = el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows));
  section.append(el("div", { className: "wide" }, table));
}

function cell(audit) {
  if (!audit) return el("td", {}, "");
  const bits = audit.bits === null || audit.bits === undefined ? "" : ` ${number(audit.bits)}`;
  return el("td", { className: audit.verdict }, `${audit.verdict}${bits}`);
}
