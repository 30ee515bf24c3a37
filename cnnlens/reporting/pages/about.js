// What the model is, and what the page was made with.

import { data, el, say } from "./dom.js";
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
    ...[...data.notes, ...model.notes].map((note) => el("p", { className: "note" }, note)),
  );
  document.getElementById("made").append(terms(Object.entries(data.made_with)));
  const parts = [["inputs", "inputs"], ["check", "check"], ["layers", "layers"], ["made", "made_with"]];
  document.getElementById("parts").append(
    ...parts.filter(([id]) => !document.getElementById(id).hidden)
      .map(([id, key]) => el("li", {}, el("a", { href: `#${id}` }, say(key)))),
  );
}

export function terms(rows) {
  return el("dl", { className: "facts" }, ...rows.flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
}
