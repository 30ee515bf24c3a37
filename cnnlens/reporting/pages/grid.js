// Numbers as a small table, each on the colour that it has in the pictures.

import { placeOf } from "./colour.js";
import { data, el, say } from "./dom.js";
import { number } from "./format.js";

const MOST_WRITTEN = 5; // columns of which the numbers are written: of more there are colours
const MOST_ACROSS = 16; // columns that a phone has room for: of more it scrolls

//   values: in C order, null where there is none (padding); shape: { slices, height, width }
//   table, low, high: their colours; chosen: the place of one that is marked; heads: whether rows and columns are numbered
//   of(place): what is said of one when it is pointed at
export function grid({ caption, values, shape, table, low, high, chosen = -1, heads = false, of = null }) {
  const { slices, height, width } = shape;
  const written = width <= MOST_WRITTEN;
  const rows = [];
  for (let slice = 0; slice < slices; slice++) {
    for (let y = 0; y < height; y++) {
      const cells = Array.from({ length: width }, (_, x) => cell((slice * height + y) * width + x));
      const head = heads ? [el("th", { scope: "row" }, slices > 1 ? `${slice}, ${y}` : String(y))] : [];
      rows.push(el("tr", slice && !y ? { className: "slice" } : {}, ...head, ...cells));
    }
  }
  const top = Array.from({ length: width }, (_, x) => el("th", { scope: "col" }, String(x)));
  const made = el(
    "table", { className: written ? "grid" : "grid small" }, el("caption", {}, caption),
    heads ? el("thead", {}, el("tr", {}, el("td"), ...top)) : null, el("tbody", {}, ...rows),
  );
  return width <= MOST_ACROSS ? made : el("div", { className: "wide", tabIndex: 0, attributes: { role: "group", "aria-label": caption } }, made);

  function cell(place) {
    const value = values[place];
    if (value === null) return el("td", { className: "padding", title: say("padding") }, written ? "0" : "");
    const text = number(value);
    const made = el("td", place === chosen ? { className: "chosen" } : {}, written ? text : "");
    made.title = [text, of === null ? "" : of(place)].filter(Boolean).join("\n");
    paint(made, [value]);
    return made;
  }

  function paint(made, one) {
    const at = placeOf(one, 0, low, high);
    if (at < 0) {
      made.style.background = at === -1 ? data.colours.nan : data.colours.infinite;
      made.style.color = "#000";
      return;
    }
    const [red, green, blue] = table.subarray(at * 3, at * 3 + 3);
    made.style.background = `rgb(${red} ${green} ${blue})`;
    made.style.color = 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue) > 0.179 ? "#000" : "#fff";
  }
}

// How much light an sRGB value is (WCAG): black is read best on more than 0.179, white on less.
function linear(value) {
  const part = value / 255;
  return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
}
