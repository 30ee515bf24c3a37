// In which order a Flatten reads a map, and what the network says where the Dense takes another for it.

import { el } from "./dom.js";
import { options, typed } from "./lesson_exercise.js";
import { pictureSwitch, switchOf } from "./lesson_parts.js";
import { sayer } from "./lesson_prose.js";
import { saysOf } from "./lesson_says.js";
import { addressTask, strips } from "./lesson_strip.js";

export function flattenChapter(tell, chapter) {
  const { readings, of, cases } = chapter;
  const says = saysOf(readings, of, sayer("mistakes"));
  const names = readings.map(({ order }) => order ?? tell("name.right"));
  const choice = switchOf(tell("order"), names, 0, says.show);
  const { element } = strips(chapter, tell, { colour: "C", name: ["map", "map"] });
  return {
    figures: [
      { element, caption: tell("caption") },
      { element: el("div", {}, pictureSwitch(), choice.element, says.element), caption: tell("caption_orders") },
    ],
    tasks: {
      address: (random) => addressTask(cases, random, {
        typed,
        question: ({ layout, sizes, entry }) => tell("address.q", {
          ...sizes, framework: layout === "NHWC" ? "Keras" : "PyTorch", index: `${entry} (\`${layout}\`)`,
        }),
      }),
      between: (random) => ({
        question: tell("between.q"),
        input: options(random.shuffled(["norm", "relu", "dropout", "second"]).map((key) => ({
          label: tell(`between.${key}`), right: key === "norm", why: tell(`between.${key}.why`),
        }))),
        check: (option) => option,
      }),
    },
  };
}
