/** Parse Prompt: the prompt's words as chips, nouns and their adjectives marked. */

import { COLOURS } from "../lib/box_canvas.js";
import { chain, el, isLinked, widgetOf } from "../lib/dom.js";
import { addPanel, asOneChange, watch } from "../lib/panel.js";
import { NO_NOUN, bindingsWithout, markedWords } from "../lib/prompt_words.js";
import { whenShown } from "../lib/execution_events.js";

const parsedBy = new WeakMap();

const textOfParser = (node) => (isLinked(node, "text") ? parsedBy.get(node)?.()?.text : widgetOf(node, "text")?.value);

/** The words of a Parse Prompt node, as its last run and its widgets mark them. */
export function wordsOfParser(node) {
  const given = (name) => (isLinked(node, name) ? "" : widgetOf(node, name)?.value);
  return markedWords(textOfParser(node), parsedBy.get(node)?.(), given("nouns"), given("bindings"));
}

export function addPromptView(node) {
  const chips = el("div", { class: "pp-chips", role: "group", "aria-label": "Words of the prompt" });
  const status = el("div", { class: "pp-status", "aria-live": "polite" });
  const panel = el("div", { class: "pp-panel pp-prompt" }, chips, status);
  let drawn = "";

  function toggle(word) {
    const nouns = wordsOfParser(node)
      .filter(({ isNoun, name }) => isNoun !== (name === word.name))
      .map(({ name }) => name);
    // Where nothing is written, the next run would find those of before again.
    const none = parsedBy.get(node)() ? NO_NOUN : "";
    asOneChange(() => {
      widgetOf(node, "nouns").value = nouns.join(", ") || none;
      const bindings = widgetOf(node, "bindings");
      if (word.isNoun && bindings?.value) bindings.value = bindingsWithout(bindings.value, textOfParser(node), word.name);
    });
    draw();
    chips.querySelector(`[data-word="${CSS.escape(word.name)}"]`)?.focus();
  }

  function chip(word, words) {
    const of = word.describes >= 0 ? words[word.describes] : null;
    const colour = word.noun >= 0 ? word.noun : of ? of.noun : -1;
    const kind = word.noun >= 0 ? "noun" : of ? "adjective" : "plain";
    const tokens = word.tokens > 1 ? `, ${word.tokens} tokens` : "";
    const says = { noun: "names an object", adjective: `describes ${of?.name}`, plain: "names no object" }[kind];
    const button = el("button", {
      class: `pp-chip pp-${kind}`,
      type: "button",
      text: word.text,
      title: `${word.name}: ${says}${tokens}. Click to ${kind === "noun" ? "unmark it" : "mark it as an object"}.`,
      "aria-pressed": String(kind === "noun"),
      "data-word": word.name,
      disabled: isLinked(node, "nouns"),
      on: { click: () => toggle(word) },
    });
    if (colour >= 0) button.style.setProperty("--pp-colour", COLOURS[colour % COLOURS.length]);
    return button;
  }

  function draw() {
    const words = wordsOfParser(node);
    const parsed = parsedBy.get(node)();
    const current = parsed && words.map(({ text }) => text).join(" ") === parsed.words.map(({ text }) => text).join(" ");
    const state = JSON.stringify([words, current, isLinked(node, "nouns")]);
    if (state === drawn) return;
    drawn = state;
    const focused = chips.contains(document.activeElement) ? document.activeElement.dataset.word : null;
    chips.replaceChildren(...words.map((word) => chip(word, words)));
    [...chips.children].find(({ dataset }) => dataset.word === focused)?.focus();
    const objects = words.filter(({ isNoun }) => isNoun).length;
    panel.classList.toggle("pp-stale", !current);
    status.textContent = !parsed
      ? "Run once to see which words name objects"
      : current
        ? `${objects} ${objects === 1 ? "object" : "objects"} · ${parsed.length} of ${parsed.limit} tokens`
        : "The text has changed since it was read";
  }

  parsedBy.set(node, whenShown(node, "pinpoint_prompt", draw));
  addPanel(node, "pinpoint_words", panel, { minHeight: 92 });
  for (const name of ["text", "nouns", "bindings"]) {
    const widget = widgetOf(node, name);
    if (widget) chain(widget, "callback", draw);
  }
  watch(node, panel, draw);
  draw();
}
