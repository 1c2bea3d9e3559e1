/** What a node's neighbours in the graph say before anything has run: its picture, its prompt. */

import { viewUrl, widgetOf } from "./dom.js";

const linkOf = (graph, id) => (id == null ? null : (graph.getLink?.(id) ?? graph.links?.[id] ?? null));

/** The node that an input comes from, seen through reroutes; null without a link. */
export function originOf(node, inputName) {
  let slot = node.inputs?.find(({ name }) => name === inputName);
  for (let hops = 0; slot && hops < 20; hops++) {
    const origin = node.graph?.getNodeById(linkOf(node.graph, slot.link)?.origin_id);
    if (origin?.type !== "Reroute") return origin ?? null;
    slot = origin.inputs?.[0];
  }
  return null;
}

function neighbours(node, direction) {
  const { graph } = node;
  if (!graph) return [];
  const ids =
    direction === "up"
      ? (node.inputs ?? []).map(({ link }) => linkOf(graph, link)?.origin_id)
      : (node.outputs ?? []).flatMap(({ links }) => (links ?? []).map((id) => linkOf(graph, id)?.target_id));
  return ids.filter((id) => id != null).map((id) => graph.getNodeById(id)).filter(Boolean);
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

/** The picture that an input will be, where that is known before a run: its address, or null. */
export function pictureBefore(node, inputName) {
  const origin = originOf(node, inputName);
  const value = origin?.comfyClass === "LoadImage" && widgetOf(origin, "image")?.value;
  if (typeof value !== "string" || !value) return null;
  const [, path, type] = /^(.*?)(?:\s*\[(input|output|temp)\])?$/s.exec(value);
  const at = path.lastIndexOf("/");
  return viewUrl({ filename: path.slice(at + 1), subfolder: path.slice(0, Math.max(at, 0)), type: type ?? "input" });
}
