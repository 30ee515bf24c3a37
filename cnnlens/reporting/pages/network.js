// The network as a list with lanes: each row leads to its layer's section.

import { data, el } from "./dom.js";
import { laneRow } from "./lanes.js";

export const sectionOf = (layer) => `layer-${layer}`;

export function drawNetwork() {
  const list = document.getElementById("network");
  const lanes = 1 + Math.max(0, ...data.graph.flatMap((row) => [row.lane, ...row.through]));
  list.append(...data.graph.map((row) => rowOf(row, lanes)));
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const links = step ? [...list.querySelectorAll("a")] : [];
    const next = links[links.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    moveTo(list, next);
    next.focus();
  });
  const first = list.querySelector("a");
  if (first) first.tabIndex = 0;
}

function rowOf(row, lanes) {
  const layer = row.layer === null ? null : data.layers[row.layer];
  const said = layer === null ? row.kind : [row.kind, layer.in_words].filter(Boolean).join(" ");
  const text = [
    el("span", { className: "name", title: row.name }, row.name),
    el("span", { className: "kind" }, said),
    el("span", { className: "shape" }, row.shapes.join(" ")),
  ];
  const inside = layer === null
    ? el("span", { className: "row" }, ...text)
    : el("a", { className: "row", href: `#${sectionOf(row.layer)}`, tabIndex: -1 }, ...text);
  return el("li", {}, laneRow(row, lanes), inside);
}

// Of all rows one is reached by the tabulator, the arrows go on from there.
function moveTo(list, link) {
  for (const one of list.querySelectorAll("a[tabindex='0']")) one.tabIndex = -1;
  link.tabIndex = 0;
}

// Marks the rows of the layer whose section is read.
export function markCurrent(id) {
  const list = document.getElementById("network");
  for (const one of list.querySelectorAll("a[aria-current]")) one.removeAttribute("aria-current");
  for (const one of list.querySelectorAll(`a[href="#${id}"]`)) {
    one.setAttribute("aria-current", "true");
    const { offsetTop } = one.closest("li");
    const place = offsetTop - list.scrollTop;
    if (place < 0 || place > list.clientHeight - 60) list.scrollTop = offsetTop - list.clientHeight / 3;
  }
}
