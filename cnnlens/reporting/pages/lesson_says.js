// What the network says of the chosen picture with its weights read in one way or another.

import { data, el } from "./dom.js";
import { whole } from "./format.js";
import { chosen, follow } from "./state.js";

// Draws `readings`; `show(place)` shows one of them.
export function saysOf(readings, of, tell) {
  const facts = el("dl", { className: "facts" });
  const list = el("ol", { className: "classes" });
  const code = el("p", { className: "code" });
  let reading = readings[0];
  const draw = () => {
    const count = reading.says[0].length;
    code.replaceChildren(el("code", {}, reading.code));
    facts.replaceChildren(...[
      ["misplaced", tell("of", { count: whole(reading.misplaced), of: whole(of) })],
      ["named", tell("of", { count: reading.right, of: count })],
    ].flatMap(([key, text]) => [el("dt", {}, tell(key)), el("dd", {}, text)]));
    const shown = data.inputs.labels[chosen.example];
    const says = reading.says[chosen.example];
    const best = Math.max(...says);
    list.replaceChildren(...says.map((share, place) => {
      const bar = el("span", { className: "share" });
      bar.style.width = `${share * 100}%`;
      const label = data.labels[place];
      const named = [share === best ? "best" : "", label === shown ? "true" : ""].join(" ").trim();
      const mark = label === shown ? el("span", { className: "mark-true", title: tell("true") }, " \u2713") : null;
      return el(
        "li", { className: named }, el("span", { className: "class" }, label, mark), el("span", { className: "track" }, bar),
        el("span", { className: "percent" }, `${(share * 100).toFixed(share > 0.0005 && share < 0.0995 ? 1 : 0)} %`),
      );
    }));
  };
  follow(draw);
  draw();
  return {
    element: el("div", { className: "says", attributes: { "aria-live": "polite" } }, code, facts, el("p", { className: "label" }, tell("says")), list),
    show: (place) => { reading = readings[place]; draw(); },
  };
}
