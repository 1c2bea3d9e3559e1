/**
 * An image with boxes on it. Editable: draw, move, resize and delete with mouse, touch and keyboard. Not editable:
 * boxes to look at and to choose from.
 */

import { HANDLES, boxesAt, handleAt, hit, moved, resized, spanned } from "./box_geometry.js";
import { el } from "./dom.js";
import { shortcutHelp, spoken } from "./shortcuts.js";

const REACH = { mouse: 7, pen: 10, touch: 18 };
const CURSORS = { nw: "nwse", se: "nwse", ne: "nesw", sw: "nesw", n: "ns", s: "ns", e: "ew", w: "ew" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const EDITING = [
  ["Drag", "draw a box, move it, or size it by its handles"],
  ["N", "add a box"],
  ["Page ↑ ↓", "choose a box"],
  ["Arrows", "move it; with Shift by ten pixels"],
  ["Alt + arrows", "size it"],
  ["Enter", "name it"],
  ["Delete", "remove it"],
];

/** Colours that tell words apart, also for the colour-blind (Okabe and Ito). */
export const COLOURS = ["#56b4e9", "#e69f00", "#2bbf8f", "#f0e442", "#cc79a7", "#ff8a50", "#7fa8ff", "#c8c8c8"];

export class BoxCanvas {
  /**
   * onChange(boxes, selected): a gesture has ended; boxes are {word, box, …} as given.
   * onSelect(index): another box, or none (-1), is selected. onName(): the selected box is to be named.
   */
  constructor({
    onChange = () => {},
    onSelect = () => {},
    onName = () => {},
    label = "Boxes on the image",
    keys = EDITING,
    editable = true,
  } = {}) {
    Object.assign(this, { onChange, onSelect, onName, editable });
    this.boxes = [];
    this.selected = -1;
    this.hovered = -1;
    this.size = null;
    /** Not even to choose from. */
    this.locked = false;
    this.gesture = null;
    /** The word of the next box that is drawn. */
    this.wordForNew = () => "";
    this.image = el("img", { class: "pp-image", alt: "", draggable: "false", hidden: true });
    this.layer = el("div", { class: "pp-boxes" });
    this.empty = el("div", { class: "pp-empty" });
    this.stage = el(
      "div",
      { class: "pp-stage", tabindex: "0", role: "application", "aria-label": `${label}. ${spoken(keys)}` },
      this.image,
      this.layer,
    );
    this.keys = shortcutHelp(keys);
    this.element = el("div", { class: "pp-board" }, this.stage, this.empty, ...this.keys.elements);
    const listen = (kind, handler) => this.stage.addEventListener(kind, (event) => handler.call(this, event));
    listen("pointerdown", this.#down);
    listen("pointermove", this.#move);
    listen("pointerup", this.#up);
    listen("pointercancel", this.#cancel);
    listen("pointerleave", () => this.#hover(-1));
    listen("keydown", this.#key);
    listen("dblclick", () => this.selected >= 0 && this.onName());
    this.setImage(null);
  }

  /** Show the image at `url`, of {width, height}; null for none, with a hint why. */
  setImage(url, size = null, hint = "") {
    this.size = url ? size : null;
    this.image.hidden = !url;
    if (url) {
      if (this.image.getAttribute("src") !== url) this.image.src = url;
      this.element.style.setProperty("--pp-ratio", String(size.width / size.height));
    } else {
      this.image.removeAttribute("src");
      this.element.style.setProperty("--pp-ratio", "1");
    }
    this.stage.hidden = !url;
    this.keys.offer(Boolean(url));
    this.empty.hidden = Boolean(url);
    this.empty.textContent = hint;
    this.render();
  }

  /**
   * Show these boxes: {word, box, colour}, and {note, others, taken}: what stands after the word, boxes to hint
   * at, whether it is the one without being selected.
   */
  setBoxes(boxes, selected = this.selected) {
    if (this.gesture) return;
    this.boxes = boxes;
    this.selected = selected < boxes.length ? selected : -1;
    // Asked for again and again: drawn again only if it looks different.
    if (this.#state() !== this.drawn) this.render();
  }

  select(index) {
    if (index === this.selected) return;
    this.selected = index;
    this.render();
    this.onSelect(index);
  }

  remove(index = this.selected) {
    if (!this.editable || !this.boxes[index]) return;
    const boxes = this.boxes.filter((_, at) => at !== index);
    this.#commit(boxes, Math.min(index, boxes.length - 1));
  }

  /** Add a box in the middle, a third of the image wide. */
  add() {
    if (!this.editable || !this.size) return;
    const { width, height } = this.size;
    const box = spanned([width / 3, height / 3], [(2 * width) / 3, (2 * height) / 3], width, height);
    this.#commit([...this.boxes, { word: this.wordForNew(), box }], this.boxes.length);
  }

  #state() {
    return JSON.stringify([this.boxes, this.selected, this.editable, this.locked]);
  }

  render() {
    this.drawn = this.#state();
    this.stage.classList.toggle("pp-editable", this.editable);
    this.stage.classList.toggle("pp-choosable", !this.editable && !this.locked);
    if (!this.size) return this.layer.replaceChildren();
    const hints = (this.boxes[this.selected]?.others ?? []).map((box) =>
      this.#placed(el("div", { class: "pp-hint" }), box, this.boxes[this.selected].colour),
    );
    this.layer.replaceChildren(...hints, ...this.boxes.map((entry, index) => this.#boxElement(entry, index)));
    this.#markHovered();
  }

  #placed(element, [x0, y0, x1, y1], colour) {
    const { width, height } = this.size;
    const share = (value, whole) => `${(100 * value) / whole}%`;
    Object.assign(element.style, {
      left: share(x0, width),
      top: share(y0, height),
      width: share(x1 - x0, width),
      height: share(y1 - y0, height),
    });
    element.style.setProperty("--pp-colour", colour ?? COLOURS[0]);
    return element;
  }

  #boxElement({ word, box, colour, note, taken }, index) {
    const chosen = index === this.selected;
    const label = el("span", { class: "pp-label", text: [word || "?", note].filter(Boolean).join(" · ") });
    if (box[1] / this.size.height < 0.12) label.classList.add("pp-label-inside");
    if (box[0] / this.size.width > 0.75) label.classList.add("pp-label-right");
    const element = el(
      "div",
      { class: `pp-box${chosen ? " pp-chosen" : ""}${taken ? " pp-taken" : ""}`, "data-index": index, "data-word": word },
      label,
    );
    this.#placed(element, box, colour);
    if (chosen && this.editable) {
      for (const handle of HANDLES) {
        const grip = el("span", { class: "pp-grip", "data-handle": handle });
        const [gx, gy] = handleAt([0, 0, 100, 100], handle);
        Object.assign(grip.style, { left: `${gx}%`, top: `${gy}%` });
        element.append(grip);
      }
    }
    return element;
  }

  /** A pointer's position on the image, in its pixels. */
  #point(event) {
    const frame = this.stage.getBoundingClientRect();
    const scale = this.size.width / frame.width;
    return {
      at: [(event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale],
      reach: (REACH[event.pointerType] ?? REACH.mouse) * scale,
      scale,
    };
  }

  #hit(event) {
    if (this.locked) return null;
    const { at, reach } = this.#point(event);
    const boxes = this.boxes.map(({ box }) => box);
    const found = hit(boxes, this.editable ? this.selected : -1, at, reach);
    if (found?.handle) return found;
    // A name is its box's, also where it stands outside of it.
    const named = event.target.closest?.(".pp-label")?.parentElement.dataset.index;
    return named === undefined ? found : { index: Number(named) };
  }

  #hover(index) {
    if (index === this.hovered) return;
    this.hovered = index;
    this.#markHovered();
  }

  #markHovered() {
    for (const element of this.layer.querySelectorAll(".pp-box")) {
      element.classList.toggle("pp-hovered", Number(element.dataset.index) === this.hovered);
    }
  }

  /** The box to choose at a click: what is hit, or the next below it where that is chosen already. */
  #below(event, index) {
    if (index !== this.selected) return index;
    const under = boxesAt(this.boxes.map(({ box }) => box), this.#point(event).at);
    return under.length > 1 ? under[(under.indexOf(index) + 1) % under.length] : index;
  }

  #down(event) {
    if (event.button !== 0 || !event.isPrimary || !this.size) return;
    this.stage.focus({ preventScroll: true });
    const target = this.#hit(event);
    if (this.locked) return;
    if (!this.editable) return this.select(target ? this.#below(event, target.index) : -1);
    const { at } = this.#point(event);
    this.gesture = {
      pointer: event.pointerId,
      kind: target?.handle ? "resize" : target ? "move" : "draw",
      handle: target?.handle,
      start: at,
      before: this.boxes,
      selectedBefore: this.selected,
      changed: false,
    };
    if (target) this.select(target.index);
    this.stage.setPointerCapture(event.pointerId);
  }

  #move(event) {
    if (!this.size) return;
    const { gesture } = this;
    if (!gesture) {
      const target = this.#hit(event);
      const drawing = this.editable ? "crosshair" : "default";
      const over = this.editable ? "move" : "pointer";
      this.stage.style.cursor = target?.handle ? `${CURSORS[target.handle]}-resize` : target ? over : drawing;
      this.#hover(target?.index ?? -1);
      return;
    }
    // A second finger moves nothing.
    if (gesture.pointer !== event.pointerId) return;
    const { width, height } = this.size;
    const { at, scale } = this.#point(event);
    const [dx, dy] = [at[0] - gesture.start[0], at[1] - gesture.start[1]];
    if (!gesture.changed && Math.max(Math.abs(dx), Math.abs(dy)) < 3 * scale) return;
    gesture.changed = true;
    if (gesture.kind === "draw") {
      const box = spanned(gesture.start, at, width, height);
      gesture.word ??= this.wordForNew();
      this.boxes = [...gesture.before, { word: gesture.word, box }];
      this.selected = gesture.before.length;
    } else {
      const original = gesture.before[this.selected].box;
      const box =
        gesture.kind === "move"
          ? moved(original, dx, dy, width, height)
          : resized(original, gesture.handle, dx, dy, width, height);
      this.boxes = gesture.before.map((entry, at) => (at === this.selected ? { ...entry, box } : entry));
    }
    this.render();
  }

  #up(event) {
    const { gesture } = this;
    if (gesture?.pointer !== event.pointerId) return;
    this.gesture = null;
    if (gesture.changed) this.#commit(this.boxes, this.selected);
    else if (gesture.kind === "draw") this.select(-1);
  }

  #cancel(event) {
    const { gesture } = this;
    if (!gesture || (event && gesture.pointer !== event.pointerId)) return;
    this.gesture = null;
    this.boxes = gesture.before;
    this.selected = gesture.selectedBefore;
    this.render();
    this.onSelect(this.selected);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || !this.size || this.locked) return;
    const count = this.boxes.length;
    const step = event.shiftKey ? 10 : 1;
    const turn = (by) => {
      const from = this.selected < 0 ? (by > 0 ? -1 : count) : this.selected;
      if (count) this.select((from + by + count) % count);
    };
    const chosen = this.boxes[this.selected];
    // A drag comes to its end before anything else.
    if (this.gesture && event.key !== "Escape") event.preventDefault();
    else if (event.key in ARROWS && this.editable) {
      if (!chosen) turn(1);
      else this.#nudge(chosen, ARROWS[event.key], step, event.altKey);
    } else if (event.key === "PageDown" || (!this.editable && ["ArrowRight", "ArrowDown"].includes(event.key))) turn(1);
    else if (event.key === "PageUp" || (!this.editable && ["ArrowLeft", "ArrowUp"].includes(event.key))) turn(-1);
    else if (["Delete", "Backspace"].includes(event.key) && this.editable) this.remove();
    else if (["n", "N", "Insert"].includes(event.key) && this.editable) this.add();
    else if (event.key === "Enter" && chosen) this.onName();
    else if (event.key === "?") this.keys.toggle();
    else if (event.key === "Escape" && this.keys.shown) this.keys.toggle();
    else if (event.key === "Escape") this.gesture ? this.#cancel() : this.select(-1);
    else return;
    // Else ComfyUI would take the key too, and delete the node.
    event.preventDefault();
    event.stopPropagation();
  }

  #nudge(chosen, [dx, dy], step, resize) {
    const { width, height } = this.size;
    const box = resize
      ? resized(chosen.box, "se", dx * step, dy * step, width, height)
      : moved(chosen.box, dx * step, dy * step, width, height);
    this.#commit(
      this.boxes.map((entry, at) => (at === this.selected ? { ...entry, box } : entry)),
      this.selected,
    );
  }

  #commit(boxes, selected) {
    this.boxes = boxes;
    this.selected = selected;
    this.render();
    this.onChange(boxes, selected);
    this.onSelect(selected);
  }
}
