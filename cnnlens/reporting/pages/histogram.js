// A histogram of weights, trained and untrained, with the law that the untrained ones are drawn from.

import { el, say, svg } from "./dom.js";
import { number, whole } from "./format.js";

const WIDTH = 560;
const HEIGHT = 150;
const FLOOR = 20;

export function histogram({ trained, untrained, law, why_no_law: why }) {
  const drawn = [["trained", trained], ["untrained", untrained]].filter(([, one]) => one && one.of);
  if (!drawn.length) return null;
  const heights = ([, { counts, edges, of }]) =>
    counts.map((count, bin) => count / (of * (edges[bin + 1] - edges[bin])));
  const low = Math.min(...drawn.map(([, { edges }]) => edges[0]));
  const high = Math.max(...drawn.map(([, { edges }]) => edges.at(-1)));
  const top = Math.max(...drawn.flatMap(heights), ...(law ? law.y.filter((y) => y !== null) : []));
  const x = (value) => ((value - low) / (high - low)) * WIDTH;
  const y = (value) => HEIGHT - (value / top) * (HEIGHT - 8);
  const parts = drawn.map((one) => {
    const [name, { edges }] = one;
    const steps = heights(one).map((height, bin) => `V${y(height)}H${x(edges[bin + 1])}`).join("");
    return svg("path", { class: `bars ${name}`, d: `M${x(edges[0])} ${HEIGHT}${steps}V${HEIGHT}Z` });
  });
  if (law) {
    const points = law.x.map((place, at) => (law.y[at] === null ? "" : `${x(place)} ${y(law.y[at])}`)).filter(Boolean);
    parts.push(svg("path", { class: "law", d: `M${points.join("L")}` }));
    for (const [place] of law.atoms) parts.push(svg("path", { class: "law atom", d: `M${x(place)} 0V${HEIGHT}` }));
  }
  for (const value of ticks(low, high)) {
    parts.push(svg("path", { class: "tick", d: `M${x(value)} ${HEIGHT}v4` }));
    parts.push(svg("text", { x: x(value), y: HEIGHT + FLOOR - 4, "text-anchor": "middle" }, number(value)));
  }
  const key = drawn.map(([name, { of }]) => el("li", { className: name }, `${say(name)} (${whole(of)})`));
  if (law) key.push(el("li", { className: "law" }, `${say("law")}: ${law.name} ${law.parameters}`));
  if (why) key.push(el("li", { className: "why" }, why));
  const label = { role: "img", "aria-label": say("histogram"), viewBox: `0 0 ${WIDTH} ${HEIGHT + FLOOR}` };
  return el("figure", { className: "histogram" }, svg("svg", label, ...parts), el("ul", { className: "key" }, ...key));
}

// Round numbers between the ends, four to nine of them.
function ticks(low, high) {
  const rough = (high - low) / 8;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, place) => (first + place) * step);
}
