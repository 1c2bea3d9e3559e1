/** Small controls that the viewers share: one of a few, and a slider with its value. */

import { el } from "./dom.js";

/** Buttons of which one is pressed: options are [value, label]; `pick` hears the value. */
export function choice(label, options, pick) {
  const buttons = options.map(([value, text]) =>
    el("button", { class: "pp-option", type: "button", text, "data-value": value, on: { click: () => pick(value) } }),
  );
  const element = el("div", { class: "pp-choice", role: "group", "aria-label": label }, ...buttons);
  return {
    element,
    show(chosen, offered = options.map(([value]) => value)) {
      for (const button of buttons) {
        button.setAttribute("aria-pressed", String(button.dataset.value === chosen));
        button.hidden = !offered.includes(button.dataset.value);
      }
    },
  };
}

/** A labelled slider; `slide` hears the number, `says` writes it. */
export function slider(label, { min, max, step = 1, value }, slide, says = String) {
  const input = el("input", { type: "range", min, max, step, "aria-label": label });
  const said = el("output", { class: "pp-said" });
  const show = () => (said.textContent = says(Number(input.value)));
  input.value = value;
  input.addEventListener("input", () => (show(), slide(Number(input.value))));
  // Keys that move the slider are not ComfyUI's.
  input.addEventListener("keydown", (event) => event.key.startsWith("Arrow") && event.stopPropagation());
  show();
  return { element: el("label", { class: "pp-slider" }, el("span", { text: label }), input, said), input, show };
}
