// A bar of the colours of a picture, with what their ends are.

import { colours } from "./colour.js";
import { el } from "./dom.js";

export function scaleBar(name, low, high) {
  const canvas = el("canvas", { width: 256, height: 1, attributes: { "aria-hidden": "true" } });
  colours(name).then((table) => {
    const image = new ImageData(256, 1);
    for (let place = 0; place < 256; place++) {
      image.data.set([...table.subarray(place * 3, place * 3 + 3), 255], place * 4);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  });
  return el("p", { className: "scale" }, el("span", {}, low), canvas, el("span", {}, high));
}
