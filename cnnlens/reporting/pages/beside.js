// The chosen kernel beside the map that it makes of the chosen input.

import { colours, painted } from "./colour.js";
import { data, el, say } from "./dom.js";
import { paintPicture } from "./inputs.js";
import { chosen, follow } from "./state.js";
import { unpack } from "./unpack.js";

const SIDE = 168; // pixels that a picture is enlarged to

export function besideOf(weight, kernels, maps, tensor) {
  const [input, kernel, map] = ["input", "kernel", "map"].map(() => el("canvas", { attributes: { "aria-hidden": "true" } }));
  const sources = data.inputs === null ? [] : Object.entries(data.inputs.arrays);
  const pictured = sources.length === 1 && sources[0][1].view === "picture" ? sources[0][0] : null;
  let index = 0;
  const draw = async () => {
    if (pictured !== null) paintPicture(input, pictured, chosen.example).then(() => fit(input));
    paint(kernel, weight.array, "weights", kernels.shape, kernels.tile(index));
    paint(map, tensor.array, tensor.signed[chosen.example] ? "weights" : "activations", maps.shape, maps.tile(index));
  };
  follow(draw);
  draw();
  const shown = [
    ...(pictured === null ? [] : [el("figure", {}, input, el("figcaption", {}, say("input"))), el("span", {}, "\u2192")]),
    el("figure", {}, kernel, el("figcaption", {}, say("kernel"))), el("span", {}, "\u2192"),
    el("figure", {}, map, el("figcaption", {}, tensor.tensor)),
  ];
  return {
    element: el("div", { className: "beside", attributes: { role: "group", "aria-label": say("beside") } }, ...shown),
    show: (k) => { index = k; draw(); },
  };
}

async function paint(canvas, array, name, shape, { start, ends: [low, high] }) {
  const [{ values }, table] = await Promise.all([unpack(array), colours(name)]);
  canvas.width = shape.width * shape.slices;
  canvas.height = shape.height;
  canvas.getContext("2d").putImageData(painted(values, table, 0, 1, shape, () => ({ start, low, high })), 0, 0);
  fit(canvas);
}

function fit(canvas) {
  const scale = SIDE / Math.max(canvas.width, canvas.height);
  canvas.style.width = `${canvas.width * scale}px`;
  canvas.style.height = `${canvas.height * scale}px`;
}
