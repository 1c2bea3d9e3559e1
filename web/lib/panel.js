/** The few places where a panel of ours meets ComfyUI's canvas. */

import { app } from "../../../scripts/app.js";
import { whileInGraph } from "./node_lifecycle.js";

/**
 * Put `element` into the node as a panel that is no part of what is saved or run. It comes after the widgets that
 * are, so that their saved values keep their places.
 */
export function addPanel(node, name, element, { minHeight, minWidth = 320 }) {
  element.classList.add("pinpoint");
  element.style.setProperty("--pinpoint-min-height", `${minHeight}px`);
  const widget = node.addDOMWidget(name, "pinpoint", element, {
    serialize: false,
    hideOnZoom: false,
    margin: 8,
    getMinHeight: () => minHeight,
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false;
  passToCanvas(element);
  passClipboard(node, element);
  replaceFormer(node, name, element);
  const wanted = node.computeSize();
  node.setSize([Math.max(node.size[0], minWidth), Math.max(node.size[1], wanted[1])]);
  return widget;
}

const owners = new WeakMap();

/**
 * Undo makes a node anew under the same id, and the new node rendering then keeps the panel of the node that is gone:
 * put this one in its place.
 */
function replaceFormer(node, name, element) {
  owners.set(element, node);
  element.dataset.panel = name;
  every(node, 250, () => {
    if (element.isConnected || node.graph?.getNodeById(node.id) !== node) return;
    // Another graph, shown in its place, may have a node of this number, too.
    if (node.graph.id !== app.canvas?.graph?.id) return;
    for (const other of document.querySelectorAll(`.pinpoint[data-panel="${name}"]`)) {
      const owner = owners.get(other);
      if (owner !== node && owner?.id === node.id) other.replaceWith(element);
    }
  });
}

/** Call `look` again and again while the node is in a graph. */
function every(node, milliseconds, look) {
  whileInGraph(node, () => {
    const timer = setInterval(look, milliseconds);
    return () => clearInterval(timer);
  });
}

/** Change widgets as one step of undo. */
export function asOneChange(change) {
  app.canvas?.emitBeforeChange?.();
  try {
    change();
  } finally {
    app.canvas?.emitAfterChange?.();
  }
}

/** Call `look` twice a second while the element is on the page; it notices what has no event of its own. */
export function watch(node, element, look) {
  every(node, 500, () => element.isConnected && look());
}

/** The wheel zooms and the middle button moves the canvas over a panel, as they do over ComfyUI's text fields. */
function passToCanvas(element) {
  const onCanvas = () => !globalThis.LiteGraph?.vueNodesMode;
  element.addEventListener(
    "wheel",
    (event) => {
      if (!onCanvas() || event.target.closest("[data-scrolls]")) return;
      event.preventDefault();
      app.canvas.processMouseWheel(event);
    },
    { passive: false },
  );
  element.addEventListener("pointerdown", (event) => {
    if (onCanvas() && event.button === 1) app.canvas.processMouseDown(event);
  });
  element.addEventListener("pointermove", (event) => {
    if (onCanvas() && (event.buttons & 4) === 4) app.canvas.processMouseMove(event);
  });
  element.addEventListener("pointerup", (event) => {
    if (onCanvas() && event.button === 1) app.canvas.processMouseUp(event);
  });
}

const TEXT_FIELD = "input[type=text], textarea, [contenteditable]";

/** Copy, cut and paste over a panel are the node's: ComfyUI hears them only from its own canvas. */
function passClipboard(node, element) {
  for (const kind of ["copy", "cut", "paste"]) {
    element.addEventListener(kind, (event) => {
      if (event.target.closest?.(TEXT_FIELD)) return;
      event.stopPropagation();
      // Reached by keyboard, the node may not be the chosen one.
      if (kind !== "paste" && !app.canvas.selectedItems?.has(node)) app.canvas.selectNode(node);
      const { clipboardData } = event;
      const passed = new ClipboardEvent(kind, { clipboardData, bubbles: true, cancelable: true });
      if (!app.canvas.canvas.dispatchEvent(passed)) event.preventDefault();
    });
  }
}
