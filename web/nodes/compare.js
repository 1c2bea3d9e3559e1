/** Compare: before and after under a sliding divider, the difference, and the mask's outline. */

import { choice, slider } from "../lib/controls.js";
import { chain, el, viewUrl, widgetOf } from "../lib/dom.js";
import { outline } from "../lib/heatmap.js";
import { addPanel } from "../lib/panel.js";
import { whenShown } from "../lib/execution_events.js";

const EMPTY = "Run to compare the images";

export function addCompareViewer(node) {
  let content = null;
  let pair = 0;
  let mode = "slide";
  let position = 50;
  let outlined = true;

  const layer = (name) => el("img", { class: `pp-image ${name}`, alt: "", draggable: "false" });
  const before = layer("pp-before");
  const after = layer("pp-after");
  const edges = el("div", { class: "pp-cover" });
  const tags = [el("span", { class: "pp-tag pp-tag-left", text: "before" }), el("span", { class: "pp-tag pp-tag-right", text: "after" })];
  const divider = el("div", {
    class: "pp-divider",
    tabindex: "0",
    role: "slider",
    "aria-label": "Divider between before and after",
    "aria-valuemin": "0",
    "aria-valuemax": "100",
  });
  const stage = el("div", { class: "pp-stage pp-compare" }, before, after, edges, ...tags, divider);
  const empty = el("div", { class: "pp-empty", text: EMPTY });
  const board = el("div", { class: "pp-board" }, stage, empty);
  const modes = choice(
    "What to show",
    [["slide", "Slide"], ["before", "Before"], ["after", "After"], ["difference", "Difference"]],
    (value) => ((mode = value), draw()),
  );
  const mask = el("button", {
    class: "pp-button",
    type: "button",
    text: "Mask",
    title: "Outline the mask",
    on: { click: () => ((outlined = !outlined), draw()) },
  });
  const gain = slider("×", { min: 1, max: 20, step: 0.5, value: 2 }, () => draw());
  const pairs = slider("Image", { min: 1, max: 1, value: 1 }, (value) => ((pair = value - 1), load()), (value) => `${value} of ${content?.pairs.length ?? 1}`);
  const row = el("div", { class: "pp-row" }, modes.element, mask, gain.element, pairs.element);
  const panel = el("div", { class: "pp-panel" }, board, row);

  function receive(_, all) {
    // One entry with a batch of pairs, or several where the node ran once for each image.
    const together = all.flatMap(({ pairs: some, ...rest }) => some.map((one) => ({ ...rest, ...one })));
    content = { gain: all[0].gain, pairs: together };
    pair = Math.min(pair, together.length - 1);
    pairs.input.max = together.length;
    pairs.input.value = pair + 1;
    pairs.show();
    gain.input.value = content.gain;
    gain.show();
    load();
  }

  function load() {
    const { before: first, after: second, width, height, mask: inside } = content.pairs[pair];
    before.src = viewUrl(first);
    after.src = viewUrl(second);
    board.style.setProperty("--pp-ratio", String(width / height));
    edges.replaceChildren(...(inside ? [outline(inside)] : []));
    draw();
  }

  function draw() {
    for (const part of [stage, row]) part.hidden = !content;
    empty.hidden = Boolean(content);
    if (!content) return;
    const sliding = mode === "slide";
    const difference = mode === "difference";
    modes.show(mode);
    before.hidden = mode === "after";
    after.hidden = mode === "before";
    after.style.clipPath = sliding ? `inset(0 0 0 ${position}%)` : "";
    stage.classList.toggle("pp-difference", difference);
    // |before − after| by the browser's own blending, brightened by the gain.
    stage.style.setProperty("--pp-gain", difference ? gain.input.value : "1");
    gain.element.hidden = !difference;
    pairs.element.hidden = content.pairs.length < 2;
    divider.hidden = !sliding;
    divider.style.left = `${position}%`;
    divider.setAttribute("aria-valuenow", String(Math.round(position)));
    for (const tag of tags) tag.hidden = !sliding;
    tags[0].style.opacity = position > 18 ? 1 : 0;
    tags[1].style.opacity = position < 82 ? 1 : 0;
    mask.hidden = !content.pairs[pair].mask;
    mask.setAttribute("aria-pressed", String(outlined));
    edges.hidden = !outlined || !content.pairs[pair].mask;
  }

  function slide(value) {
    position = Math.min(100, Math.max(0, value));
    draw();
  }

  const follow = (event) => {
    const frame = stage.getBoundingClientRect();
    slide((100 * (event.clientX - frame.left)) / frame.width);
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || mode !== "slide") return;
    divider.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  stage.addEventListener("pointermove", (event) => stage.hasPointerCapture(event.pointerId) && mode === "slide" && follow(event));
  divider.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1;
    const to = { ArrowLeft: position - step, ArrowRight: position + step, Home: 0, End: 100 }[event.key];
    if (to === undefined) return;
    slide(to);
    event.preventDefault();
    event.stopPropagation();
  });

  addPanel(node, "pinpoint_compare", panel, { minHeight: 320 });
  whenShown(node, "pinpoint_compare", receive);
  const asked = widgetOf(node, "gain");
  if (asked) {
    chain(asked, "callback", () => {
      gain.input.value = asked.value;
      gain.show();
      draw();
    });
  }
  draw();
}
