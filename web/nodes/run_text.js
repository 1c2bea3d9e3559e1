/** What a run tells in words, and what stays when it has ended: numbers of Edit Metrics, an edit's cost, a file's name. */

import { el } from "../lib/dom.js";
import { whenRan } from "../lib/execution_events.js";
import { addPanel } from "../lib/panel.js";

const LINE = 18;

/** The panel is made by the first run that tells something. */
export function showRunText(node) {
  let panel = null;
  whenRan(node, ({ text }) => {
    if (!text?.length) return;
    const told = text.join("\n\n");
    if (!panel) {
      panel = el("div", { class: "pp-panel pp-run-text", role: "status" });
      addPanel(node, "pinpoint_text", panel, { minHeight: LINE * (told.split("\n").length + 1), minWidth: 0 });
    }
    panel.textContent = told;
  });
}
