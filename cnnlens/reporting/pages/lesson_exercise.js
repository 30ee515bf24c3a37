// An exercise: a question, a way to answer it, and why an answer is right or wrong.

import { el, say } from "./dom.js";
import { inline, prose } from "./lesson_prose.js";
import { randomOf } from "./lesson_random.js";

// An exercise that is asked by `ask(random)`, which gives { question, figure, input, check(value) -> { right, why } };
// `again` of it says whether there are others to ask. `solved` is called when the answer is right.
export function exercise(id, number, ask, seed, solved) {
  const random = randomOf(seed);
  const body = el("div");
  const element = el("section", { id, className: "exercise" }, el("h3", {}, say("lesson.exercise", { number })), body);
  const pose = () => {
    const { question, figure = null, input, check, again = false } = ask(random);
    const said = el("div", { className: "said", attributes: { role: "status" } });
    const answer = () => {
      const value = input.read();
      const { right, why } = value === null ? { right: null, why: say(input.empty ?? "lesson.empty") } : check(value);
      said.className = right === null ? "said" : right ? "said right" : "said wrong";
      const verdict = right === null ? [] : [el("strong", {}, say(right ? "lesson.right" : "lesson.wrong")), " "];
      said.replaceChildren(el("p", {}, ...verdict, ...inline(why)));
      if (right) solved();
    };
    const form = el(
      "form", { attributes: { autocomplete: "off" } }, input.element,
      el("p", { className: "buttons" }, el("button", { type: "submit", className: "check" }, say("lesson.check"))),
    );
    form.addEventListener("submit", (event) => { event.preventDefault(); answer(); });
    if (again) {
      const other = el("button", { type: "button" }, say("lesson.again"));
      other.addEventListener("click", () => { pose(); body.querySelector("input, button, [tabindex='0']").focus(); });
      form.lastChild.append(other);
    }
    body.replaceChildren(...prose(question), ...[figure].filter(Boolean), form, said);
  };
  pose();
  return element;
}

let groups = 0;

// One of several: { label (a text, or elements), right, why }.
export function options(list) {
  const name = `choice-${groups++}`;
  const buttons = list.map((_, place) => el("input", { type: "radio", name, value: String(place) }));
  const labels = list.map(({ label }, place) => el(
    "label", {}, buttons[place], el("span", {}, ...(typeof label === "string" ? inline(label) : [label].flat())),
  ));
  return {
    element: el("div", { className: "options" }, ...labels),
    read: () => {
      const place = buttons.findIndex(({ checked }) => checked);
      return place < 0 ? null : list[place];
    },
  };
}

// A number that is typed: a comma or a point before its decimals, any minus.
export function typed() {
  const field = el("input", { type: "text", inputMode: "decimal", size: 10 });
  const input = {
    element: el("label", { className: "typed" }, `${say("lesson.answer")} `, field),
    empty: "lesson.empty",
    read: () => {
      const text = field.value.trim().replace(/[\u2212\u2013]/, "-");
      const plain = /^-?[1-9]\d{0,2}(,\d{3})+$/.test(text) ? text.replace(/,/g, "") : text.replace(",", ".");
      input.empty = text ? "lesson.no_number" : "lesson.empty";
      return plain === "" || !Number.isFinite(Number(plain)) ? null : Number(plain);
    },
  };
  return input;
}

// Some letters, put into an order by pressing them one after the other.
export function ordered(letters) {
  let value = "";
  const shown = el("output", { className: "order" });
  const buttons = letters.map((letter) => el("button", { type: "button", className: "letter" }, letter));
  const clear = el("button", { type: "button" }, say("lesson.clear"));
  const set = (text) => {
    value = text;
    shown.textContent = [...value.padEnd(letters.length, "\u00b7")].join(" ");
    buttons.forEach((button) => button.setAttribute("aria-pressed", value.includes(button.textContent)));
  };
  buttons.forEach((button) => button.addEventListener("click", () => {
    if (!value.includes(button.textContent)) set(value + button.textContent);
  }));
  clear.addEventListener("click", () => set(""));
  set("");
  return {
    element: el("div", { className: "ordering" }, el("span", { className: "letters" }, ...buttons), shown, clear),
    read: () => (value.length === letters.length ? value : null),
  };
}
