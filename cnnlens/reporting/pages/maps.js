// A tensor's feature maps of the chosen input, as a mosaic or as bars, with what is chosen of them.

import { Bars } from "./bars.js";
import { colours } from "./colour.js";
import { el, say } from "./dom.js";
import { tileShape } from "./kernels.js";
import { Mosaic } from "./mosaic.js";
import { readout } from "./readout.js";
import { chosen, follow } from "./state.js";
import { unpack } from "./unpack.js";

// What draws them, and `show(k)`, which marks map k; `tell(k)` is called when one is chosen.
export async function mapsOf(maps, tell) {
  const [, count, ...spatial] = maps.shape;
  const cells = spatial.reduce((product, size) => product * size, 1);
  const [limits, moments] = await Promise.all([unpack(maps.limits), unpack(maps.statistics)]);
  const place = (k) => chosen.example * count + k;
  const ends = (k) => limits.values.subarray(place(k) * 2, place(k) * 2 + 2);
  const says = (k) => say(maps.view === "bars" ? "activation_of" : "map_of", { index: k, count });
  const said = readout();
  const show = (k) => said.show({
    title: says(k),
    notation: Object.entries(maps.axes).map(([framework, axes]) => ({ framework, text: indexed(axes, k) })),
    statistics: moments.values.subarray(place(k) * 5, place(k) * 5 + 5),
    alone: cells === 1,
  });
  const parts = [el("h4", {}, maps.tensor)];
  const common = {
    label: `${say(maps.view === "bars" ? "activations" : "maps")}: ${say("arrow_keys")}`,
    count,
    says,
    show: (k) => { show(k); tell(k); },
  };
  let picture = null;
  let redraw = () => {};
  if (maps.array === null) {
    parts.push(el("p", { className: "note" }, say("left_out")));
  } else if (maps.view === "bars") {
    picture = new Bars(common);
    redraw = async () => {
      const { values } = await unpack(maps.array);
      picture.set(values.subarray(place(0), place(count)));
    };
  } else {
    picture = new Mosaic({
      ...common,
      shape: tileShape(spatial),
      joined: maps.view === "rows",
      tile: (k) => {
        const [low, high] = ends(k);
        return { start: place(k) * cells, low, high };
      },
      source: async () => ({
        values: (await unpack(maps.array)).values,
        table: await colours(maps.signed[chosen.example] ? "weights" : "activations"),
      }),
    });
    redraw = () => picture.repaint();
  }
  if (picture) parts.push(picture.element);
  if (!maps.exact && maps.array) parts.push(el("p", { className: "note" }, say("levels_only")));
  await redraw();
  show(0);
  follow(() => { redraw(); show(picture ? picture.chosen : 0); });
  parts.push(said.element);
  return {
    element: el("div", { className: "maps" }, ...parts),
    show: (k) => { if (picture && k < count) { picture.show(k); show(k); } },
  };
}

// `[0, :, :, 5]`, in the order of the axes of a framework's maps.
function indexed(axes, k) {
  const shown = [...axes].map((letter) => ({ N: chosen.example, C: k })[letter] ?? ":");
  return `[${shown.join(", ")}]`;
}
