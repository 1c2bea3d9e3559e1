/** Workflow files in which inputs of our nodes still have their former names. */

const table = fetch(new URL("../old_names.json", import.meta.url)).then((answer) => answer.json());

/** Give the inputs of our nodes in a workflow, and in its subgraphs, the names that they have now. */
export async function renameOldInputs(workflow) {
  const names = await table;
  for (const graph of [workflow, ...(workflow.definitions?.subgraphs ?? [])]) {
    for (const node of graph.nodes ?? []) {
      for (const slot of node.inputs ?? []) {
        const now = names[node.type]?.[slot.name];
        if (!now) continue;
        slot.name = now;
        if (slot.widget) slot.widget.name = now;
      }
      renamePromoted(node, workflow, names);
    }
  }
}

/** The widgets of a subgraph's nodes that stand on the subgraph's own node: [id of the node, name of the widget]. */
function renamePromoted(node, workflow, names) {
  const subgraph = workflow.definitions?.subgraphs?.find(({ id }) => id === node.type);
  for (const promoted of subgraph && Array.isArray(node.properties?.proxyWidgets) ? node.properties.proxyWidgets : []) {
    const inner = subgraph.nodes?.find(({ id }) => String(id) === String(promoted[0]));
    promoted[1] = names[inner?.type]?.[promoted[1]] ?? promoted[1];
  }
}
