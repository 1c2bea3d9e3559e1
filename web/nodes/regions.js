/**
 * Learn Regions, Score Regions and Pick Best Edit: the anchors' boxes on the image with their scores. A click on one
 * is the choice that Pick Best Edit takes in the next run.
 */

import { BoxCanvas, COLOURS } from "../lib/box_canvas.js";
import { choice } from "../lib/controls.js";
import { chain, el, isLinked, viewUrl, widgetOf } from "../lib/dom.js";
import { nodesAfter } from "../lib/graph.js";
import { addPanel, asOneChange, watch } from "../lib/panel.js";
import { sizeOf } from "../lib/images.js";
import { hideImages, whenPreviewed, whenRan } from "../lib/execution_events.js";

const PICK = "PinpointPickBestEdit";
const KEYS = [
  ["Click", "choose a box for the next run, again the one below it"],
  ["Arrows", "choose another"],
  ["Esc", "leave the choice to the score"],
];
const EMPTY = "Run to see the boxes and choose one of them";
const CHOSEN = (anchor) => `Box ${anchor} is chosen. Run to see it`;

const lastRuns = new WeakMap();
const colourOf = (anchor) => COLOURS[(anchor - 1) % COLOURS.length];
const digits = (value) => (value == null ? "" : value.toFixed(3));

/** Of the rows that a run told, those of the first image, which is shown: each image's begin with new anchors. */
function ofFirst(rows = []) {
  const known = new Set();
  const end = rows.findIndex(({ anchor }) => known.has(anchor) || !known.add(anchor));
  return end < 0 ? rows : rows.slice(0, end);
}

/** Whether an edit is in the box that its anchor chose: not in another anchor's or the region mask's, as a variant is. */
const inOwnBox = ({ variant, in_region }) => !variant && !in_region;

/**
 * What a run found for each anchor, best first: {anchor, box, others, loss, probability}, and where edits were picked
 * {rank, score, final, variant, in_region, image}.
 */
export function rowsOf(judged, picked) {
  const scored = new Map(ofFirst(picked?.pinpoint_candidates).map((row, rank) => [row.anchor, { ...row, rank }]));
  const found = ofFirst(judged?.pinpoint_regions).map(({ anchor, boxes, probabilities, losses, chosen }) => ({
    anchor,
    box: boxes[chosen],
    others: boxes.filter((_, at) => at !== chosen),
    loss: losses[chosen],
    probability: boxes.length > 1 ? probabilities[chosen] : null,
  }));
  const known = new Map(found.map((row) => [row.anchor, row]));
  for (const [anchor, row] of scored) {
    const image = picked.pinpoint_edits?.[row.rank];
    const judgedAs = (inOwnBox(row) && known.get(anchor)) || { others: [], loss: null, probability: null };
    const { box, rank, score, final, variant, in_region } = row;
    known.set(anchor, { ...judgedAs, anchor, box, rank, score, final, variant, in_region, image });
  }
  // As they were ranked: what is edited in full goes before previews, whatever these score.
  const rank = (row) => row.rank ?? Infinity;
  const loss = (row) => row.loss ?? Infinity;
  const order = (a, b) => (a === b ? 0 : a - b);
  return [...known.values()].sort(
    (a, b) => order(rank(a), rank(b)) || order(loss(a), loss(b)) || a.anchor - b.anchor,
  );
}

export function addRegionChooser(node) {
  const picks = node.comfyClass === PICK;
  let rows = [];
  let mode = "after";
  let drawn = "";
  let shownImage = "";
  let preview = null;

  const board = new BoxCanvas({ label: "Boxes that an edit could go to", keys: KEYS, editable: false, onSelect: selected });
  const chips = el("div", { class: "pp-chips", role: "group", "aria-label": "The box to take" });
  const modes = choice("What to show", [["before", "Before"], ["after", "Edit"]], (value) => ((mode = value), draw()));
  const status = el("div", { class: "pp-status", "aria-live": "polite" });
  const row = el("div", { class: "pp-row" }, chips, modes.element);
  const panel = el("div", { class: "pp-panel pp-regions" }, board.element, row, status);

  const ran = whenRan(node, draw);
  lastRuns.set(node, ran);

  /** The nodes that take the choice: this one, or those that pick among its regions. */
  const takers = () => (picks ? [node] : nodesAfter(node, (other) => other.comfyClass === PICK));
  const choices = () => takers().map((taker) => widgetOf(taker, "choice")).filter(Boolean);
  const locked = () => takers().length === 0 || takers().some((taker) => isLinked(taker, "choice"));
  const chosen = () => Number(choices()[0]?.value ?? 0);

  /** What the run of a node that picks says, if it picked among what this node shows. */
  function pickedOf() {
    if (picks) return ran();
    for (const taker of takers()) {
      const said = lastRuns.get(taker)?.();
      if (said && belongs(said)) return said;
    }
    return null;
  }

  /** Whether the boxes of a pick are those that were judged here: not of a run before. */
  function belongs(said) {
    const known = new Map(ofFirst(ran()?.pinpoint_regions).map(({ anchor, boxes, chosen: at }) => [anchor, String(boxes[at])]));
    const own = ofFirst(said.pinpoint_candidates).filter(inOwnBox);
    return own.length > 0 && own.every(({ anchor, box }) => known.get(anchor) === String(box));
  }

  function choose(anchor) {
    if (locked()) return;
    if (choices().some((widget) => widget.value !== anchor)) {
      asOneChange(() => {
        for (const widget of choices()) {
          widget.value = anchor;
          widget.callback?.(anchor);
        }
      });
      node.graph?.setDirtyCanvas?.(true, true);
    }
    draw();
  }

  function selected(index) {
    choose(rows[index]?.anchor ?? 0);
  }

  function chip(anchor, text, title) {
    const button = el("button", {
      class: "pp-chip pp-noun",
      type: "button",
      text,
      title,
      "data-anchor": anchor,
      "aria-pressed": String(chosen() === anchor),
      disabled: locked(),
      on: { click: () => choose(anchor) },
    });
    if (anchor) button.style.setProperty("--pp-colour", colourOf(anchor));
    return button;
  }

  function describe(row) {
    const [x0, y0, x1, y1] = row.box.map(Math.round);
    const parts = [`box ${row.anchor}`, `${x1 - x0} × ${y1 - y0} at ${x0}, ${y0}`];
    if (row.in_region) parts.push("the box of the region mask");
    if (row.variant) parts.push(`variant ${row.variant + 1}`);
    if (row.score != null) parts.push(`score ${digits(row.score)}${row.final ? "" : " of a preview"}`);
    if (row.loss != null) parts.push(`loss ${digits(row.loss)}`);
    if (row.probability != null) parts.push(`${Math.round(100 * row.probability)} % sure of its size`);
    return parts.join(" · ");
  }

  function say() {
    if (!rows.length) return "";
    const row = rows.find(({ anchor }) => anchor === chosen());
    if (takers().length === 0) return `${rows.length} boxes · connect Pick Best Edit to choose one`;
    if (locked()) return "The choice comes from a connected node";
    if (chosen() && !row) return `There is no box ${chosen()}`;
    if (!row) return `The best is taken${rows[0].score == null ? "" : `: box ${rows[0].anchor}`} · click a box to take another`;
    const taken = pickedOf()?.pinpoint_choice?.[0];
    return describe(row) + (taken != null && taken !== row.anchor ? " · run to take it" : "");
  }

  async function image(url) {
    const hint = chosen() ? CHOSEN(chosen()) : EMPTY;
    const wanted = url ?? hint;
    if (wanted === shownImage) return;
    shownImage = wanted;
    const size = url ? await sizeOf(url) : null;
    if (wanted === shownImage) board.setImage(size && url, size, hint);
  }

  function draw() {
    rows = rowsOf(picks ? null : ran(), pickedOf());
    const at = rows.findIndex(({ anchor }) => anchor === chosen());
    const edit = picks && (rows[at] ?? rows[0])?.image;
    const images = ran()?.pinpoint_image;
    const shown = (mode === "after" && edit) || images?.[0];
    const url = shown ? viewUrl(shown) : null;
    const boxes = rows.map(({ anchor, box, others, score, loss }, rank) => ({
      word: `${anchor}`,
      box,
      others,
      note: score != null ? score.toFixed(2) : loss != null ? `loss ${loss.toFixed(2)}` : "",
      colour: colourOf(anchor),
      taken: !chosen() && rank === 0 && score != null,
    }));
    board.locked = locked();
    board.setBoxes(preview ? [] : boxes, at);
    image(preview ?? url);
    const text = say();
    const state = JSON.stringify([rows, chosen(), locked(), mode, text]);
    if (state === drawn) return;
    drawn = state;
    row.hidden = rows.length === 0;
    modes.element.hidden = !edit;
    modes.show(mode);
    const focused = chips.contains(document.activeElement) ? document.activeElement.dataset.anchor : null;
    const ranked = rows.map((one) => chip(one.anchor, String(one.anchor), describe(one)));
    chips.replaceChildren(...(rows.length ? [chip(0, "Best", "Take what scores best"), ...ranked] : []));
    [...chips.children].find(({ dataset }) => dataset.anchor === focused)?.focus();
    if (status.textContent !== text) status.textContent = text;
    status.classList.toggle("pp-problem", text.startsWith("There is no"));
  }

  board.setImage(null, null, EMPTY);
  hideImages(node);
  whenPreviewed(node, (url) => ((preview = url), draw()));
  addPanel(node, "pinpoint_regions", panel, { minHeight: 340 });
  if (picks) chain(widgetOf(node, "choice") ?? {}, "callback", draw);
  watch(node, panel, draw);
  draw();
}
