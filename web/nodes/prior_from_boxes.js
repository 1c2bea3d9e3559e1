/** Prior from Boxes: boxes drawn on the image. The text of lines stays the value; this is a way to write it. */

import { BoxCanvas, COLOURS } from "../lib/box_canvas.js";
import { fits } from "../lib/box_geometry.js";
import { linesOf, textOf } from "../lib/box_text.js";
import { chain, el, isLinked, viewUrl, widgetOf } from "../lib/dom.js";
import { parserFor, imageBefore } from "../lib/graph.js";
import { addPanel, asOneChange, watch } from "../lib/panel.js";
import { sizeOf } from "../lib/images.js";
import { keyOf } from "../lib/prompt_words.js";
import { whenShown } from "../lib/execution_events.js";
import { wordsOfParser } from "./parse_prompt.js";

const COMMON = new Set("a an the and or of in on at by to with from near under over its his her their is are".split(" "));
const NO_IMAGE = "Run once to see the image here. With Load Image it is here at once.";

const rounded = (value) => Math.round(100 * value) / 100;
const described = ({ word, box: [x0, y0, x1, y1] }) => `${word} · ${rounded(x1 - x0)} × ${rounded(y1 - y0)} at ${x0}, ${y0}`;

export function addBoxEditor(node) {
  const text = widgetOf(node, "boxes");
  if (!text) return;
  let lines = [];
  let drawnText = null;
  let drawnWords = "";
  let chosenWord = "";
  let shownImage = "";

  const words = el("div", { class: "pp-chips", role: "group", "aria-label": "The word of the box" });
  const typed = el("input", {
    class: "pp-word",
    type: "text",
    placeholder: "another word",
    "aria-label": "The word of the box",
    spellcheck: "false",
  });
  const bin = el("button", { class: "pp-button", type: "button", text: "Delete", title: "Delete the chosen box (Delete)" });
  const status = el("div", { class: "pp-status", "aria-live": "polite" });
  const board = new BoxCanvas({
    label: "Boxes of objects",
    onChange: write,
    onSelect: () => drawWords(),
    onName: () => (typed.focus(), typed.select()),
  });
  board.wordForNew = () => chosenWord || firstUnplaced();
  const panel = el(
    "div",
    { class: "pp-panel pp-boxes-editor" },
    board.element,
    el("div", { class: "pp-row" }, words, typed, bin),
    status,
  );

  const linked = () => isLinked(node, "boxes");
  const source = () => (linked() ? (shown()?.boxes ?? "") : String(text.value ?? ""));
  const boxLines = () => lines.filter((line) => line.box);
  const parser = () => parserFor(node);

  function nouns() {
    const found = parser();
    if (!found) return [];
    const all = wordsOfParser(found);
    const objects = all.filter(({ isNoun }) => isNoun);
    // Before the first run nobody has said which words are nouns: all but the commonest are offered.
    return (objects.length ? objects : all.filter(({ text }) => !COMMON.has(keyOf(text)))).map(({ name }) => name);
  }

  const firstUnplaced = () => {
    const placed = new Set(boxLines().map(({ word }) => keyOf(word)));
    const names = headsFirst(nouns());
    return names.find((name) => !placed.has(keyOf(name))) ?? names[0] ?? boxLines().at(-1)?.word ?? "";
  };

  /** What ends a phrase is what it is about, "a yellow cat": such words before the others. */
  function headsFirst(names) {
    const all = parser() ? wordsOfParser(parser()) : [];
    const ends = all.filter((_, at) => !all[at + 1] || COMMON.has(keyOf(all[at + 1].text))).map(({ name }) => name);
    return [...names.filter((name) => ends.includes(name)), ...names.filter((name) => !ends.includes(name))];
  }

  function colourOf(word) {
    const order = [...new Map([...nouns(), ...boxLines().map((line) => line.word)].map((name) => [keyOf(name), 0])).keys()];
    return COLOURS[order.indexOf(keyOf(word)) % COLOURS.length] ?? COLOURS[0];
  }

  const coloured = (boxes) => boxes.map((line) => ({ ...line, line, colour: colourOf(line.word) }));

  /** Take over the text, if it is not what is drawn. */
  function read(selected = board.selected) {
    const now = source();
    if (now !== drawnText) {
      drawnText = now;
      lines = linesOf(now);
    }
    board.editable = !linked();
    board.setBoxes(coloured(boxLines()), selected);
    drawWords();
  }

  /** Write boxes as text; lines that read as no box stay where they are. */
  function write(boxes, selected) {
    const kept = new Map(boxes.filter(({ line }) => line).map((entry) => [entry.line, entry]));
    const plain = ({ word, box }) => ({ word, box });
    const next = lines.flatMap((line) => (line.raw ? [line] : kept.has(line) ? [plain(kept.get(line))] : []));
    lines = [...next, ...boxes.filter(({ line }) => !line).map(plain)];
    drawnText = textOf(lines);
    asOneChange(() => (text.value = drawnText));
    node.graph?.setDirtyCanvas?.(true, true);
    read(selected);
  }

  function wordButton(name, active, chosen) {
    const button = el("button", {
      class: "pp-chip pp-noun",
      type: "button",
      text: name,
      title: chosen ? `The box is around the ${name}` : `Draw a box around the ${name}`,
      "aria-pressed": String(keyOf(active) === keyOf(name)),
      disabled: linked(),
      on: { click: () => nameBox(name) },
    });
    button.style.setProperty("--pp-colour", colourOf(name));
    return button;
  }

  function drawWords() {
    const chosen = board.boxes[board.selected];
    const active = chosen ? chosen.word : chosenWord;
    const names = nouns();
    // Only when something has changed: a button that is replaced under the pointer hears no click.
    const state = JSON.stringify([names.map((name) => [name, colourOf(name)]), active, Boolean(chosen), linked()]);
    if (state !== drawnWords) {
      drawnWords = state;
      const focused = words.contains(document.activeElement) ? document.activeElement.textContent : null;
      words.replaceChildren(...names.map((name) => wordButton(name, active, chosen)));
      [...words.children].find(({ textContent }) => textContent === focused)?.focus();
    }
    if (document.activeElement !== typed) {
      typed.value = active && !names.some((name) => keyOf(name) === keyOf(active)) ? active : "";
    }
    typed.disabled = linked();
    bin.disabled = !chosen || linked();
    say(chosen);
  }

  const sameWord = (name, word) => keyOf(name) === keyOf(word).replace(/#1$/, "");

  function say(chosen) {
    const bad = lines.find((line) => line.raw);
    const outside = board.size && board.boxes.find(({ box }) => !fits(box, board.size.width, board.size.height));
    const known = parser() ? wordsOfParser(parser()) : [];
    // A phrase of several words is looked for by its words.
    const inPrompt = ({ word }) => word.split(/\s+/).every((part) => known.some(({ name }) => sameWord(name, part)));
    const unknown = known.length && board.boxes.find((entry) => !inPrompt(entry));
    let problem = "";
    if (bad) problem = `“${bad.raw}” is not word=x0,y0,x1,y1`;
    else if (board.boxes.some(({ word }) => !word)) problem = "A box has no word yet: choose or type one";
    else if (outside) problem = `The box of ${outside.word} is not inside the image`;
    else if (unknown) problem = `${unknown.word} is not in the prompt`;
    const count = board.boxes.length;
    const tally = `${count} ${count === 1 ? "box" : "boxes"}${board.size ? " · drag to draw" : ""}`;
    const text = problem || (linked() ? "The boxes come from the connected node" : chosen ? described(chosen) : tally);
    status.classList.toggle("pp-problem", Boolean(problem));
    // Set anew it would be read out anew.
    if (status.textContent !== text) status.textContent = text;
  }

  function nameBox(name) {
    chosenWord = name;
    const at = board.selected;
    if (at >= 0 && board.boxes[at].word !== name) {
      write(board.boxes.map((entry, index) => (index === at ? { ...entry, word: name } : entry)), at);
    } else drawWords();
  }

  function look() {
    const before = imageBefore(node, "image");
    const after = shown();
    const url = before ?? (after ? viewUrl(after.image) : null);
    if (url !== shownImage) {
      shownImage = url;
      if (!url) board.setImage(null, null, NO_IMAGE);
      else measure(url);
    }
    if (!board.gesture) read();
  }

  async function measure(url) {
    const size = await sizeOf(url);
    if (url !== shownImage) return;
    board.setImage(size && url, size, NO_IMAGE);
    read();
  }

  const shown = whenShown(node, "pinpoint_boxes", look);
  typed.addEventListener("change", () => {
    // What parts lines, and words from numbers, is in no word.
    const word = typed.value.replace(/[=;\n]/g, " ").trim();
    if (word) nameBox(word);
  });
  typed.addEventListener("keydown", (event) => {
    event.stopPropagation();
    // The Enter that ends an input method's choice of characters is not ours.
    if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
    if (event.key === "Escape") typed.value = "";
    typed.blur();
    board.stage.focus();
    drawWords();
  });
  bin.addEventListener("click", () => board.remove());
  board.setImage(null, null, NO_IMAGE);
  addPanel(node, "pinpoint_boxes", panel, { minHeight: 330 });
  // The image gets the room, the lines as much as a few of them need.
  if (text.options) text.options.getMaxHeight = () => 76;
  chain(text, "callback", () => !board.gesture && read());
  watch(node, panel, look);
  look();
}
