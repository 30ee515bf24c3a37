// What each wrong transpose draws, and what the network says with it.

import { colours } from "./colour.js";
import { data, el, say } from "./dom.js";
import { options } from "./lesson_exercise.js";
import { pictureSwitch, switchOf, tile } from "./lesson_parts.js";
import { saysOf } from "./lesson_says.js";
import { Mosaic } from "./mosaic.js";
import { unpack } from "./unpack.js";

export function mistakesChapter(tell, { readings, of, layer }) {
  const count = data.arrays[readings[0].kernels].shape[0];
  const { ends } = data.layers[layer];
  let reading = readings[0];
  const says = (k) => say("kernel_of", { index: k, count });
  const label = el("p", { className: "label" }, says(0));
  const mosaic = new Mosaic({
    label: tell("kernels"), count, shape: { height: 3, width: 3 }, says, show: (k) => { label.textContent = says(k); },
    tile: (k) => ({ start: k * 9, low: ends[0], high: ends[1] }),
    source: async () => ({ values: (await unpack(reading.kernels)).values, table: await colours("weights") }),
  });
  const answers = saysOf(readings, of, tell);
  const choice = switchOf(tell("reading"), readings.map(({ key }) => tell(`name.${key}`)), 0, (place) => {
    reading = readings[place];
    mosaic.repaint();
    answers.show(place);
  });
  return {
    figures: [{
      element: el("div", {}, pictureSwitch(), choice.element, el("div", { className: "columns" }, el("div", {}, mosaic.element, label), answers.element)),
      caption: tell("caption"),
    }],
    tasks: {
      which: (random) => whichTask(tell, readings, ends, count, random),
      test: (random) => ({
        question: tell("test.q"),
        input: options(random.shuffled(["shape", "histogram", "accuracy", "layer"]).map((key) => ({
          label: tell(`test.${key}`), right: key === "layer", why: tell(`test.${key}.why`),
        }))),
        check: (option) => option,
      }),
    },
  };
}

function whichTask(tell, readings, ends, count, random) {
  const wrong = readings.slice(1);
  const made = random.pick(wrong);
  const kernels = random.shuffled([...Array(count).keys()]).slice(0, 4);
  const rows = [[readings[0], "which.trained"], [made, "which.read"]].map(([reading, key]) => {
    const row = el("div", { className: "tiles" });
    unpack(reading.kernels).then(({ values }) => row.append(...kernels.map((k) => tile(values, k * 9, [3, 3], ends, "weights", 60))));
    return el("div", {}, el("p", { className: "label" }, tell(key)), row);
  });
  return {
    again: true,
    question: tell("which.q"),
    figure: el("div", { className: "stack" }, ...rows),
    input: options(random.shuffled(wrong).map(({ key }) => ({
      label: tell(`name.${key}`), right: key === made.key, why: tell(`which.${key}.${key === made.key ? "right" : "why"}`),
    }))),
    check: (option) => option,
  };
}
