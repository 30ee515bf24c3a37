// A row's part of the lanes that the graph is drawn with: what runs past, what comes in from above, what goes on below.

import { svg } from "./dom.js";

const STEP = 13;
const HEIGHT = 44;
const MOST_WIDE = 130; // where there are more lanes than fit, they stand closer

export function laneWidth(lanes) {
  return Math.min(STEP * lanes + 4, MOST_WIDE);
}

export function laneRow(row, lanes) {
  const step = (laneWidth(lanes) - 4) / lanes;
  const x = (lane) => (lane + 0.5) * step + 2;
  const middle = HEIGHT / 2;
  const lines = row.through.map((lane) => `M${x(lane)} 0V${HEIGHT}`);
  for (const lane of row.from) {
    lines.push(lane === row.lane ? `M${x(lane)} 0V${middle}` : curve(x(lane), x(row.lane), middle));
  }
  if (row.out) lines.push(`M${x(row.lane)} ${middle}V${HEIGHT}`);
  return svg(
    "svg", { class: "lanes", width: laneWidth(lanes), height: HEIGHT, "aria-hidden": "true" },
    svg("path", { d: lines.join("") }), svg("circle", { cx: x(row.lane), cy: middle, r: Math.min(4.5, step / 2 + 1) }),
  );
}

const curve = (from, to, middle) => `M${from} 0C${from} ${middle * 0.7} ${to} ${middle * 0.3} ${to} ${middle}`;
