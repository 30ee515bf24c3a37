// Why another model differs: what explains each pair of layers, the line of NumPy that proves it, and what differs drawn.

import { Bars } from "./bars.js";
import { colours } from "./colour.js";
import { data, el, said, say, whenNear } from "./dom.js";
import { number } from "./format.js";
import { tileShape } from "./kernels.js";
import { Mosaic } from "./mosaic.js";
import { scaleBar } from "./scale.js";
import { unpack } from "./unpack.js";

const TONES = {
  equal: "good", "equal, stored otherwise": "good", explained: "doubt", ambiguous: "doubt", "fine-tuned": "doubt",
};
const STANDINGS = { same: "good", inherits: "doubt", own: "bad" };

export function drawDiff() {
  const { diff } = data;
  if (diff === null) return;
  const section = document.getElementById("diff");
  section.hidden = false;
  section.append(
    ...["a", "b"].map((side) => el("p", { className: "note" }, `${side.toUpperCase()}: ${diff[side].file}`)),
    el("div", { className: "said" }, ...diff.verdict.map((text) => el("p", { className: "strong" }, said(text)))),
    table(say("diff_layers"), ["A", "B", say("explains"), say("numpy_line")], diff.rows.flatMap(rowsOf)),
  );
  if (diff.activations !== null) {
    const rows = diff.activations.tensors.map((one) => el("tr", {}, el("td", {}, one.a), el("td", {}, one.b ?? "-"),
      el("td", { className: STANDINGS[one.standing] ?? "" }, say(`standing_${one.standing}`))));
    section.append(el("p", {}, said(diff.activations.says)), table(say("maps"), ["A", "B", ""], rows));
  }
  const drawn = diff.rows.flatMap((row) => row.arrays.filter((one) => one.drawn).map((one) => drawnOf(row, one)));
  if (drawn.length) section.append(el("h3", {}, say("differing")), ...drawn);
}

function table(caption, heads, rows) {
  const head = el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)));
  return el("div", { className: "wide", tabIndex: 0, attributes: { role: "region", "aria-label": caption } },
    el("table", { className: "diff" }, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, ...rows)));
}

// A row for each finding about arrays that are not simply equal; one for a layer whose all are.
function rowsOf(row) {
  const differing = row.arrays.filter(({ status, finding }) => status !== "equal" || finding.stored || finding.flattened);
  const groups = new Map();
  if (row.a === null || row.b === null || !differing.length) groups.set("", [row]);
  for (const one of groups.size ? [] : differing) {
    const key = JSON.stringify([one.explanation, one.status, one.line?.text]);
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  const shown = [...groups.values()].map(([one, ...more]) => {
    const roles = [one, ...more].map(({ role }) => role).join(", ");
    return { ...one, explanation: one.role && row.arrays.length > 1 ? `${roles}: ${one.explanation}` : one.explanation };
  });
  return shown.map(({ explanation, status, line }, place) => el(
    "tr", {},
    ...[row.a, row.b].map((name) => el("td", {}, place ? "" : name ?? "-")),
    el("td", { className: `why ${TONES[status] ?? "bad"}` }, said(explanation)),
    el("td", {}, line === null ? "" : el("code", {}, line.holds === "bit for bit" ? line.text : `${line.text}  # ${line.holds}`)),
  ));
}

function drawnOf(row, { role, a, b, explanation, drawn }) {
  const name = [row.a ?? row.b, a ?? b ?? role].join(" \u00b7 ");
  const element = el("article", { className: "drawn" }, el("h4", {}, name), el("p", {}, said(explanation)));
  whenNear(element, async () => {
    const sides = Object.entries(drawn);
    const pictures = [];
    const show = (k) => pictures.forEach((one) => k < one.count && one.show(k));
    for (const [side, one] of sides) element.append(await picture(say(`diff_${side}`), one, show, pictures));
  });
  return element;
}

async function picture(title, { array, shape, limits: [low, high] }, show, pictures) {
  if (array === null) return el("figure", {}, el("figcaption", {}, title), el("p", { className: "note" }, say("left_out")));
  const [count, ...inner] = shape;
  const cells = inner.reduce((product, size) => product * size, 1);
  const common = {
    label: `${title}: ${say("arrow_keys")}`, count, show,
    says: (k) => say("row_of", { index: k, count }),
  };
  let made;
  const caption = el("figcaption", {}, title);
  if (shape.length === 1) {
    const { values } = await unpack(array);
    const exact = !(values instanceof Uint8Array);
    const numbers = exact ? values : Array.from(values, (value) => low + (value / data.colours.levels) * (high - low));
    made = new Bars(common);
    const mark = made.show.bind(made);
    made.show = (k) => { mark(k); caption.textContent = `${title} [${k}]: ${number(numbers[k])}`; };
    made.set(numbers);
  } else {
    made = new Mosaic({
      ...common,
      shape: shape.length === 2 ? { height: 1, width: cells } : wide(inner),
      joined: shape.length === 2,
      tile: (k) => ({ start: k * cells, low, high }),
      source: async () => ({ values: (await unpack(array)).values, table: await colours("weights") }),
    });
  }
  pictures.push(made);
  const scale = shape.length === 1 ? null : scaleBar("weights", [low, high]);
  return el("figure", {}, caption, made.element, scale);
}

// A kernel with all of its input channels side by side.
function wide([inputs, ...spatial]) {
  const { slices, height, width } = tileShape(spatial);
  return { slices: slices * inputs, height, width };
}
