/** What mouse and keys do on an image: a small button in its corner, and the list that it shows over the image. */

import { el } from "./dom.js";

/** The same for those who hear it; keys are [key, what it does]. */
export const spoken = (keys) => keys.map(([key, does]) => `${key}: ${does}.`).join(" ");

/** The elements to put on a board, which `toggle` shows and `offer` takes away; `shown` while the list is open. */
export function shortcutHelp(keys) {
  const list = el(
    "dl",
    { class: "pp-keys", hidden: true },
    ...keys.flatMap(([key, does]) => [el("dt", { text: key }), el("dd", { text: does })]),
  );
  const button = el("button", { class: "pp-help", type: "button", text: "?", title: "Mouse and keys (?)", "aria-expanded": "false" });
  const help = {
    elements: [list, button],
    get shown() {
      return !list.hidden;
    },
    toggle() {
      list.hidden = !list.hidden;
      button.setAttribute("aria-expanded", String(!list.hidden));
    },
    offer(on) {
      button.hidden = !on;
      if (!on) list.hidden = true;
    },
  };
  button.addEventListener("click", help.toggle);
  list.addEventListener("click", help.toggle);
  return help;
}
