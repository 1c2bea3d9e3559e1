/** Where a node is: in which graph, what ComfyUI calls it there, and what goes on only while it is there. */

import { chain } from "./dom.js";

const rootOf = (graph) => graph.rootGraph ?? graph;
const present = new Set();

/**
 * Call `start` when the node joins a graph, and what it returns when the node leaves. A node that is made only to be
 * read, as copying does, never joins one.
 */
export function whileInGraph(node, start) {
  let stop = null;
  const entry = { node, leave };
  function leave() {
    present.delete(entry);
    stop?.();
    stop = null;
  }
  const join = () => {
    present.add(entry);
    stop ??= start();
  };
  chain(node, "onAdded", join);
  chain(node, "onRemoved", leave);
  if (node.graph) join();
}

/** End what goes on for nodes of subgraphs that are gone: loading a workflow anew, as undo does, tells these nothing. */
export function endWhatIsGone() {
  for (const { node, leave } of [...present]) if (!isInWorkflow(node)) leave();
}

function isInWorkflow(node) {
  const { graph } = node;
  if (graph?.getNodeById(node.id) !== node) return false;
  const root = rootOf(graph);
  return graph === root || root.subgraphs?.get(graph.id) === graph;
}

/** Whether this is the node that a run calls `id`: "12:5" is node 5 of the subgraph that node 12 is. */
export function isCalled(node, id) {
  if (id == null || !node.graph) return false;
  const path = String(id).split(":");
  let graph = rootOf(node.graph);
  for (const step of path.slice(0, -1)) graph = graph?.getNodeById(step)?.subgraph;
  return graph?.getNodeById(path.at(-1)) === node;
}

/** Under which name ComfyUI keeps what the node's runs told: its number, behind its subgraph's where it is in one. */
export function outputName(node) {
  const { graph, id } = node;
  return graph && graph !== rootOf(graph) ? `${graph.id}:${id}` : `${id}`;
}
