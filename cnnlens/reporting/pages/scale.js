// A bar of the colours of a picture, with what its ends are, whether numbers lie beyond them, and what is no number.

import { colours } from "./colour.js";
import { data, el, say } from "./dom.js";
import { number } from "./format.js";

//   moments: mean, deviation, smallest, largest and how many are not finite, of what is drawn; null where not known
export function scaleBar(name, [low, high], moments = null) {
  const canvas = el("canvas", { width: 256, height: 1, attributes: { "aria-hidden": "true" } });
  colours(name).then((table) => {
    const image = new ImageData(256, 1);
    for (let place = 0; place < 256; place++) {
      image.data.set([...table.subarray(place * 3, place * 3 + 3), 255], place * 4);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  });
  const [, , smallest, largest, broken] = moments ?? [0, 0, low, high, 0];
  const near = (high - low) * 1e-6; // the ends are rounded otherwise than the moments
  const ends = [`${smallest < low - near ? "\u2264 " : ""}${number(low)}`, `${largest > high + near ? "\u2265 " : ""}${number(high)}`];
  const others = broken ? ["nan", "infinite"].map(swatch) : [];
  return el("div", { className: "scale" }, el("span", {}, ends[0]), canvas, el("span", {}, ends[1]), ...others);
}

function swatch(key) {
  const colour = el("i");
  colour.style.background = data.colours[key];
  return el("span", { className: "swatch" }, colour, say(key));
}
