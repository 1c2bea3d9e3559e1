/** What a node's neighbours in the graph say before anything has run: its image, its prompt. */

import { viewUrl, widgetOf } from "./dom.js";

/** The node that an input comes from, seen through reroutes; null without a link. */
export function originOf(node, inputName) {
  let origin = inputNode(node, node.inputs?.findIndex(({ name }) => name === inputName) ?? -1);
  for (let hops = 0; origin?.type === "Reroute" && hops < 20; hops++) origin = inputNode(origin, 0);
  return origin;
}

const inputNode = (node, at) => (at >= 0 && node.isInputConnected(at) ? (node.getInputNode(at) ?? null) : null);

function neighbours(node, direction) {
  if (!node.graph) return [];
  const found =
    direction === "up"
      ? (node.inputs ?? []).map((_, at) => inputNode(node, at))
      : (node.outputs ?? []).flatMap((_, at) => node.getOutputNodes(at) ?? []);
  return found.filter(Boolean);
}

function reach(start, direction, visit) {
  const seen = new Set(start);
  const waiting = [...start];
  while (waiting.length) {
    const node = waiting.shift();
    const found = visit(node);
    if (found) return found;
    for (const next of neighbours(node, direction)) {
      if (!seen.has(next)) waiting.push(next), seen.add(next);
    }
  }
  return null;
}

/** The nodes after this one that `wanted` is true of. */
export function nodesAfter(node, wanted) {
  const found = [];
  reach(neighbours(node, "down"), "down", (after) => void (wanted(after) && found.push(after)));
  return found;
}

const isParser = (node) => node.comfyClass === "PinpointParsePrompt" && node;

/**
 * The Parse Prompt whose words a prior is for: one that a node after the prior also depends on; else the graph's
 * only one.
 */
export function parserFor(node) {
  const after = neighbours(node, "down");
  const met = reach(after, "down", (consumer) => reach([consumer], "up", isParser));
  if (met) return met;
  const all = (node.graph?._nodes ?? node.graph?.nodes ?? []).filter(isParser);
  return all.length === 1 ? all[0] : null;
}

/** The image that an input will be, where that is known before a run: its address, or null. */
export function imageBefore(node, inputName) {
  const origin = originOf(node, inputName);
  const value = origin?.comfyClass === "LoadImage" && widgetOf(origin, "image")?.value;
  if (typeof value !== "string" || !value) return null;
  const [, path, type] = /^(.*?)(?:\s*\[(input|output|temp)\])?$/s.exec(value);
  const at = path.lastIndexOf("/");
  return viewUrl({ filename: path.slice(at + 1), subfolder: path.slice(0, Math.max(at, 0)), type: type ?? "input" });
}
