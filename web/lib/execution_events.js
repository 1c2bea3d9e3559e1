/** What a node's runs tell the browser: its output, and images of what forms meanwhile. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { chain } from "./dom.js";
import { isCalled, outputName, whileInGraph } from "./node_lifecycle.js";

/**
 * Call `show` with all that the node's last run told the browser: after each run, and when the workflow is shown
 * again. Returns a function that gives the last of it.
 */
export function whenRan(node, show = () => {}) {
  let last;
  const receive = (output) => {
    if (!output || output === last) return;
    last = output;
    show(output);
  };
  chain(node, "onExecuted", receive);
  const recall = () => receive(app.nodeOutputs?.[outputName(node)]);
  chain(node, "onConfigure", () => {
    setTimeout(recall, 0);
    setTimeout(recall, 500);
  });
  return () => last;
}

/**
 * Like `whenRan`, with what the run told under `key`: `show` gets the first of it, and all of it. There are several
 * where the node ran once for each of several images.
 */
export function whenShown(node, key, show = () => {}) {
  let last;
  whenRan(node, (output) => {
    const all = output[key] ?? [];
    if (!all.length || all[0] === last) return;
    last = all[0];
    show(last, all);
  });
  return () => last;
}

/** Call `show` with the address of each image that is sent while the node runs, and with null at the end. */
export function whenPreviewed(node, show) {
  let url = null;
  const replace = (next) => {
    const former = url;
    url = next;
    show(url);
    if (former) URL.revokeObjectURL(former);
  };
  const formed = ({ detail }) => {
    if (detail?.blob && isCalled(node, detail.displayNodeId ?? detail.nodeId)) replace(URL.createObjectURL(detail.blob));
  };
  const running = ({ detail }) => url && !isCalled(node, detail?.node ?? detail) && replace(null);
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

/** Keep ComfyUI from showing the node's images below a panel that shows them itself. */
export function hideImages(node) {
  node.hideOutputImages = true;
  // Frontends that do not know this yet draw whatever `imgs` holds.
  Object.defineProperty(node, "imgs", { get: () => undefined, set: () => {}, configurable: true });
}
