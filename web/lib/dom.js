/** Small elements, and small questions to a node. */

import { api } from "../../../scripts/api.js";

/** An element; text is set as text, never as HTML. */
export function el(tag, { class: names, text, on, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (names) element.className = names;
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  for (const [kind, listener] of Object.entries(on ?? {})) element.addEventListener(kind, listener);
  element.append(...children);
  return element;
}

/** Load the pack's style sheet, once. */
export function addStyle() {
  const href = new URL("../pinpoint.css", import.meta.url).href;
  if (![...document.styleSheets].some((sheet) => sheet.href === href)) {
    document.head.append(el("link", { rel: "stylesheet", href }));
  }
}

/** Where ComfyUI serves an image from: {filename, subfolder, type}. */
export function viewUrl({ filename, subfolder = "", type = "temp" }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

/** The widget of a node by its name. */
export const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);

/** Whether a widget's value comes in through a link. */
export function isLinked(node, name) {
  const at = node.inputs?.findIndex((slot) => slot.widget?.name === name) ?? -1;
  return at >= 0 && Boolean(node.isInputConnected(at));
}

/** Call `after` behind a callback that the node or widget may have. */
export function chain(object, name, after) {
  const first = object[name];
  object[name] = function (...given) {
    const result = first?.apply(this, given);
    after.apply(this, given);
    return result;
  };
}
