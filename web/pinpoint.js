/** Pinpoint's browser side: a panel on each node that shows or edits more than text. */

import { app } from "../../scripts/app.js";
import { addStyle } from "./lib/dom.js";
import { endWhatIsGone } from "./lib/node_lifecycle.js";
import { renameOldInputs } from "./lib/old_names.js";
import { addMapsViewer } from "./nodes/attention_maps.js";
import { addCompareViewer } from "./nodes/compare.js";
import { addPromptView } from "./nodes/parse_prompt.js";
import { addBoxEditor } from "./nodes/prior_from_boxes.js";
import { addRegionChooser } from "./nodes/regions.js";
import { showRunText } from "./nodes/run_text.js";

const PANELS = {
  PinpointParsePrompt: addPromptView,
  PinpointPriorFromBoxes: addBoxEditor,
  PinpointCrossAttentionMaps: addMapsViewer,
  PinpointCompare: addCompareViewer,
  PinpointScoreRegions: addRegionChooser,
  PinpointLearnRegions: addRegionChooser,
  PinpointPickBestEdit: addRegionChooser,
};

app.registerExtension({
  name: "Pinpoint",
  setup: addStyle,
  beforeConfigureGraph: renameOldInputs,
  afterConfigureGraph: endWhatIsGone,
  nodeCreated(node) {
    PANELS[node.comfyClass]?.(node);
    if (node.comfyClass?.startsWith("Pinpoint")) showRunText(node);
  },
});
