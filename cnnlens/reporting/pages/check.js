// What a check of backends found: its sentences, a row a layer with the effective bits of each run as bars, and of each
// layer that fails what explains it and where in its output the bits are lost.

import { Bars } from "./bars.js";
import { colours } from "./colour.js";
import { data, el, said, say, whenNear } from "./dom.js";
import { number, rounded } from "./format.js";
import { tileShape } from "./kernels.js";
import { Mosaic } from "./mosaic.js";
import { sectionOf } from "./network.js";
import { scaleBar } from "./scale.js";
import { unpack } from "./unpack.js";

const FULL = 24; // bits of float32, at the end of a bar

export function drawCheck() {
  const { check, twins } = data;
  if (check === null && twins === null) return;
  const section = document.getElementById("check");
  section.hidden = false;
  if (twins !== null) section.append(el("p", { className: tone(twins.agree) }, said(twins.says)));
  for (const one of twins === null ? [check] : twins.checks) section.append(...checkOf(one, twins !== null));
}

const tone = (good) => (good ? "good" : "bad");

const line = ({ text, tone: how }) => el("p", { className: how ?? "" }, said(text));

function checkOf(check, named) {
  const verdicts = new Set(check.runs.map(({ label, says }) => `${label}: ${says}`));
  const ofRun = ({ text }) => verdicts.has(text);
  const places = new Map(data.layers.map(({ name, index }) => [name, index]));
  const own = check.model.sha256 === data.model.sha256;
  const runs = check.runs.filter(({ error }) => error === null);
  const names = new Map(check.layers.map(({ name }) => [name, titled(name, own ? places.get(name) : undefined)]));
  const failing = check.layers.flatMap(({ name, runs: audits }) => Object.entries(audits)
    .filter(([, { verdict, lost }]) => lost || verdict === "wrong" || verdict === "suspicious")
    .map(([label, audit]) => failed(names.get(name), label, audit)));
  return [
    named ? el("h3", {}, check.model.file) : null,
    el("div", { className: "said" }, ...check.said.filter(ofRun).map(line)),
    runs.length ? el("p", { className: "note" }, say("bits_help")) : null,
    runs.length ? table(check, runs, names) : null,
    el("div", { className: "said rest" }, ...check.said.filter((one) => !ofRun(one)).map(line)),
    failing.length ? el("h3", {}, say("failing")) : null,
    ...failing,
  ].filter((part) => part !== null);
}

// A layer's name, which leads to its section where the page has one.
function titled(name, place) {
  return () => (place === undefined ? el("span", { title: name }, name)
    : el("a", { href: `#${sectionOf(place)}`, title: name }, name));
}

function table({ layers }, runs, names) {
  const heads = [say("layer"), say("kind"), ...runs.map(({ label }) => label)];
  const head = el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)));
  const rows = layers.map((layer) => el(
    "tr", {}, el("th", { scope: "row" }, names.get(layer.name)()), el("td", {}, layer.kind),
    ...runs.map(({ label }) => cell(layer.runs[label])),
  ));
  const caption = el("caption", {}, say("bits_of_layers"));
  return el("div", { className: "wide", tabIndex: 0, attributes: { role: "region", "aria-label": say("bits_of_layers") } },
    el("table", { className: "bits" }, caption, el("thead", {}, head), el("tbody", {}, ...rows)));
}

// As the command's table has it: the layer's bits, those of its worst channel, the verdict.
function cell(audit) {
  if (!audit) return el("td", {}, "");
  const { verdict, bits, channel_bits: least } = audit;
  const plain = verdict === "exact" || verdict === "not audited";
  const text = plain ? verdict : `${shown(bits)} / ${shown(least)}  ${verdict}`;
  const bar = el("span", { className: "bar-of-bits", attributes: { "aria-hidden": "true" } }, el("span"), el("i"));
  const part = (value) => `${Math.min(Math.max((verdict === "exact" ? FULL : value ?? 0) / FULL, 0), 1) * 100}%`;
  bar.firstChild.style.width = part(bits);
  bar.lastChild.style.left = part(least);
  const marked = verdict !== "not audited";
  return el("td", { className: verdict.replace(" ", "-") }, marked ? bar : null, el("span", { className: "bits-said" }, text));
}

const shown = (bits) => (bits === null ? "all" : rounded(bits, 1)); // exact: nothing to take a logarithm of

function failed(name, label, audit) {
  const facts = [
    [say("bits"), shown(audit.bits)],
    [say("worst_channel"), audit.worst_channel === null ? null : `${audit.worst_channel} (${shown(audit.channel_bits)})`],
    [say("worst_position"), audit.worst_position && `(${audit.worst_position.join(", ")})`],
    [say("worst_error"), audit.worst_error === null ? null : number(audit.worst_error)],
  ].filter(([, text]) => text);
  const article = el(
    "article", { className: "failed" },
    el("h4", {}, name(), ` \u00b7 ${label}: `, el("span", { className: audit.verdict }, audit.verdict)),
    audit.explanation === null ? null : el("p", {}, said(audit.explanation)),
    el("dl", { className: "facts" }, ...facts.flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)])),
  );
  if (audit.lost) whenNear(article, () => lostOf(audit).then((parts) => article.append(...parts)));
  return article;
}

// How many bits each place has lost: a tile a channel.
async function lostOf({ lost, worst_channel: worst }) {
  if (lost.array === null) return [el("p", { className: "note" }, say("left_out"))];
  const [count, ...spatial] = lost.shape;
  const cells = spatial.reduce((product, size) => product * size, 1);
  const { values } = await unpack(lost.array);
  const at = (place) => (lost.exact ? values[place] : level(values[place], lost.full));
  const line = el("p", { className: "readout", attributes: { "aria-live": "polite" } });
  const show = (k) => { line.textContent = inChannel(k, k * cells, spatial, at); };
  const common = {
    label: `${say("lost")}: ${say("arrow_keys")}`, count, show,
    says: (k) => say("activation_of", { index: k, count }),
  };
  let picture;
  if (lost.view === "bars") {
    picture = new Bars(common);
    picture.set(Array.from({ length: count }, (_, k) => at(k)));
  } else {
    picture = new Mosaic({
      ...common,
      shape: lost.view === "rows" ? { height: 1, width: cells } : tileShape(spatial),
      joined: lost.view === "rows",
      tile: (k) => ({ start: k * cells, low: 0, high: lost.full }),
      source: async () => ({ values, table: await colours("activations") }),
    });
  }
  picture.show(worst ?? 0);
  show(worst ?? 0);
  return [el("h5", {}, say("lost")), picture.element, scaleBar("activations", [0, lost.full]), line];
}

const level = (value, full) => (value === 254 ? NaN : value === 255 ? Infinity : (value / data.colours.levels) * full);

// In words where a channel has lost most.
function inChannel(channel, start, spatial, at) {
  const cells = spatial.reduce((product, size) => product * size, 1);
  let [most, place, compared] = [0, 0, 0];
  for (let cell = 0; cell < cells; cell++) {
    const value = at(start + cell);
    if (Number.isNaN(value)) continue;
    compared += 1;
    if (value > most) [most, place] = [value, cell];
  }
  if (!compared) return say("lost_none", { channel });
  const index = [];
  let rest = place;
  for (const size of [...spatial].reverse()) {
    index.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  const where = index.length ? ` (${index.join(", ")})` : "";
  return say("lost_in_channel", { channel, most: Number.isFinite(most) ? rounded(most, 1) : say("infinite"), where });
}
