// The page on paper: what was not yet looked at is drawn first, at the width of the paper.

import { drawAll, el, say } from "./dom.js";

export function startPrint() {
  const { classList } = document.documentElement;
  const button = el("button", { type: "button", className: "print" }, say("print"));
  button.addEventListener("click", async () => {
    button.disabled = true;
    classList.add("printing");
    await drawAll();
    window.print();
  });
  window.addEventListener("afterprint", () => {
    classList.remove("printing");
    button.disabled = false;
  });
  document.querySelector(".bar .theme").before(button);
  document.getElementById("main").prepend(el("p", { className: "note on-paper" }, say("print_note", { button: say("print") })));
}
