// What the model is, and what the page was made with.

import { data, el, said, say } from "./dom.js";
import { whole } from "./format.js";

export function drawAbout() {
  const { model } = data;
  const file = model.file.split(/[\\/]/).at(-1);
  document.title = `${file} \u2013 cnnlens`;
  document.getElementById("top").append(
    el("p", { className: "lead" }, `${model.kind} \u00b7 ${model.framework}`),
    el("h1", {}, file),
    terms([
      [say("layers"), whole(data.layers.length)],
      [say("parameters"), whole(model.parameters)],
      [say("size"), say("bytes", { count: whole(model.size) })],
      ["sha256", model.sha256],
    ]),
    ...[...data.notes, ...model.notes].map((note) => el("p", { className: "note" }, said(note))),
    data.inputs !== null && data.inputs.count < data.inputs.of
      ? el("p", { className: "note" }, say("maps_of_first", { count: whole(data.inputs.count), of: whole(data.inputs.of) }))
      : "",
  );
  document.getElementById("made").append(terms([...Object.entries(data.made_with), ...inputsMade()]), ...runs());
  const parts = [["inputs", "inputs"], ["check", "check"], ["diff", "diff"], ["layers", "layers"], ["made", "made_with"]];
  document.getElementById("parts").append(
    ...parts.filter(([id]) => !document.getElementById(id).hidden)
      .map(([id, key]) => el("li", {}, el("a", { href: `#${id}` }, say(key)))),
  );
}

function inputsMade() {
  const arrays = Object.entries(data.inputs === null ? {} : data.inputs.arrays);
  return arrays.map(([name, { sha256 }]) => [`${say("input")} ${name}: sha256`, sha256]);
}

// What each run of a check was, so that another can repeat it.
function runs() {
  const checks = [data.check, ...(data.twins === null ? [] : data.twins.checks)].filter((one) => one !== null);
  const heads = ["run", "versions", "device", "precision", "inputs_audited", "weights_equal"].map((key) => say(key));
  const rows = checks.flatMap((check) => check.runs).map((run) => [
    run.label,
    Object.entries(run.versions).map(([name, version]) => `${name} ${version}`).join(", "),
    run.device,
    run.precision,
    run.error === null ? `${whole(run.audited_inputs)} / ${whole(run.inputs)}` : "",
    run.weights_equal === null ? "" : say(run.weights_equal ? "yes" : "no"),
  ]);
  if (!rows.length) return [];
  const row = (cells, tag) => el("tr", {}, ...cells.map((text) => el(tag, {}, text)));
  return [el("div", { className: "wide", tabIndex: 0, attributes: { role: "region", "aria-label": say("runs") } },
    el("table", {}, el("caption", {}, say("runs")), el("thead", {}, row(heads, "th")),
      el("tbody", {}, ...rows.map((cells) => row(cells, "td")))))];
}

export function terms(rows) {
  return el("dl", { className: "facts" }, ...rows.flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
}
