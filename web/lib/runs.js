/** What a node's runs tell the browser: its output, and pictures of what forms meanwhile. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { chain, whileInGraph } from "./dom.js";

/**
 * Call `show` with all that the node's last run told the browser: after each run, and when the workflow is shown
 * again. Returns a function that gives the last of it.
 */
export function whenRan(node, show = () => {}) {
  let last;
  const take = (output) => {
    if (!output || output === last) return;
    last = output;
    show(output);
  };
  chain(node, "onExecuted", take);
  const recall = () => take(app.nodeOutputs?.[node.id]);
  chain(node, "onConfigure", () => {
    setTimeout(recall, 0);
    setTimeout(recall, 500);
  });
  return () => last;
}

/** Like `whenRan`, with the one thing that the run told under `key`. */
export function whenShown(node, key, show = () => {}) {
  let last;
  whenRan(node, (output) => {
    const content = output[key]?.[0];
    if (content === undefined || content === last) return;
    last = content;
    show(content);
  });
  return () => last;
}

/** Call `show` with the address of each picture that is sent while the node runs, and with null at the end. */
export function whenForming(node, show) {
  let url = null;
  const isThis = (id) => id != null && String(id).split(":").at(-1) === String(node.id);
  const replace = (next) => {
    const former = url;
    url = next;
    show(url);
    if (former) URL.revokeObjectURL(former);
  };
  const formed = ({ detail }) => {
    if (detail?.blob && isThis(detail.displayNodeId ?? detail.nodeId)) replace(URL.createObjectURL(detail.blob));
  };
  const running = ({ detail }) => url && !isThis(detail?.node ?? detail) && replace(null);
  whileInGraph(node, () => {
    api.addEventListener("b_preview_with_metadata", formed);
    api.addEventListener("executing", running);
    return () => {
      api.removeEventListener("b_preview_with_metadata", formed);
      api.removeEventListener("executing", running);
      if (url) URL.revokeObjectURL(url);
      url = null;
    };
  });
}

/** Keep ComfyUI from showing the node's pictures below a panel that shows them itself. */
export function hidePictures(node) {
  node.hideOutputImages = true;
  // Frontends that do not know this yet draw whatever `imgs` holds.
  Object.defineProperty(node, "imgs", { get: () => undefined, set: () => {}, configurable: true });
}
