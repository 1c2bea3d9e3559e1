/** Cross-Attention Maps: one word's map over the image, before and after optimization, over all steps or at one. */

import { choice, slider } from "../lib/controls.js";
import { el, viewUrl } from "../lib/dom.js";
import { outline, paintHeatmap, unpacked } from "../lib/heatmap.js";
import { addPanel } from "../lib/panel.js";
import { whenShown } from "../lib/execution_events.js";

const EMPTY = "Run to see each word's attention map";

export function addMapsViewer(node) {
  let contents = [];
  let content = null;
  let at = 0;
  let word = "";
  let moment = "after";
  let step = 0;

  const image = el("img", { class: "pp-image pp-grey", alt: "", draggable: "false" });
  const heat = el("canvas", { class: "pp-heat" });
  const edges = el("div", { class: "pp-cover" });
  const stage = el("div", { class: "pp-stage" }, image, heat, edges);
  const empty = el("div", { class: "pp-empty", text: EMPTY });
  const board = el("div", { class: "pp-board" }, stage, empty);
  const words = el("div", { class: "pp-chips", role: "group", "aria-label": "The word" });
  const when = choice("Before or after optimization", [["before", "Before"], ["after", "After"]], (value) => {
    moment = value;
    draw();
  });
  const steps = slider("Step", { min: 0, max: 1, value: 0 }, (value) => {
    step = value;
    draw();
  }, (value) => (value ? `${value} of ${steps?.input.max}` : "all"));
  const opacity = slider("Map", { min: 0, max: 100, step: 5, value: 75 }, (value) => {
    heat.style.opacity = value / 100;
  }, (value) => `${value} %`);
  const images = slider("Image", { min: 1, max: 1, value: 1 }, (value) => ((at = value - 1), open()), (value) => `${value} of ${contents.length || 1}`);
  const status = el("div", { class: "pp-status", "aria-live": "polite" });
  const row = el("div", { class: "pp-row" }, when.element, steps.element, opacity.element, images.element);
  const panel = el("div", { class: "pp-panel" }, words, board, row, status);
  heat.style.opacity = 0.75;

  function receive(_, all) {
    contents = all;
    at = Math.min(at, all.length - 1);
    images.input.max = all.length;
    images.input.value = at + 1;
    images.show();
    images.element.hidden = all.length < 2;
    open();
  }

  function open() {
    const given = contents[at];
    content = given;
    if (!given.words.some((entry) => entry.word === word)) word = given.words[0]?.word ?? "";
    image.src = viewUrl(given.image);
    board.style.setProperty("--pp-ratio", String(given.width / given.height));
    const focused = words.contains(document.activeElement) ? document.activeElement.dataset.word : null;
    words.replaceChildren(
      ...given.words.map((entry) =>
        el("button", {
          class: "pp-chip",
          type: "button",
          text: entry.word,
          "data-word": entry.word,
          on: {
            click: () => {
              word = entry.word;
              draw();
            },
          },
        }),
      ),
    );
    [...words.children].find(({ dataset }) => dataset.word === focused)?.focus();
    draw();
  }

  function draw() {
    const entry = content?.words.find((each) => each.word === word);
    stage.hidden = !entry;
    row.hidden = !entry;
    empty.hidden = Boolean(entry);
    if (!entry) return;
    for (const button of words.children) button.setAttribute("aria-pressed", String(button.dataset.word === word));
    const tuned = Boolean(entry.before);
    const shown = tuned ? moment : "after";
    when.element.hidden = !tuned;
    when.show(shown);
    const each = entry[`${shown}_steps`];
    steps.element.hidden = each.length < 2;
    steps.input.max = each.length;
    step = Math.min(step, each.length);
    steps.input.value = step;
    steps.show();
    paintHeatmap(heat, unpacked(step ? each[step - 1] : entry[shown]));
    edges.replaceChildren(...(entry.mask ? [outline(entry.mask)] : []));
    const iou = (value) => (value == null ? "" : value.toFixed(2));
    const fit = entry.mask ? (tuned ? `best IoU ${iou(entry.before_iou)} before, ${iou(entry.after_iou)} after` : `best IoU ${iou(entry.after_iou)}`) : "";
    const where = step ? `step ${step} of ${each.length}, noise first` : "all steps";
    status.textContent = [word, tuned ? shown : "", each.length > 1 ? where : "", fit].filter(Boolean).join(" · ");
  }

  addPanel(node, "pinpoint_maps", panel, { minHeight: 360 });
  whenShown(node, "pinpoint_maps", receive);
  draw();
}
