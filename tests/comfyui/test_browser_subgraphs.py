"""Panels of nodes inside a subgraph: what runs tell reaches the right one, and those that are gone stop."""

from __future__ import annotations

from typing import Any

import pytest

from pinpoint.tests.comfyui.browser import CanvasPage
from pinpoint.tests.comfyui.panels import PICK, box_workflow

# A node inside a subgraph and one outside, of the same number where the frontend lets them have it.
NESTED = """(kind) => {
  const moved = LiteGraph.createNode(kind);
  app.graph.add(moved);
  const { subgraph, node: holder } = app.graph.convertToSubgraph(new Set([moved]));
  const [inside] = subgraph.nodes;
  const outside = LiteGraph.createNode(kind);
  outside.id = inside.id;
  app.graph.add(outside);
  window.nested = { inside, outside, path: `${holder.id}:${inside.id}` };
}"""
PANEL = "node.widgets.find(({ name }) => name === 'pinpoint_regions').element"


@pytest.fixture
def nested(canvas: CanvasPage) -> CanvasPage:
    canvas.vue_nodes(False)
    canvas.open(box_workflow(loaded=True))
    canvas.page.evaluate(NESTED, PICK)
    return canvas


def tell(canvas: CanvasPage, kind: str, detail: str) -> None:
    """Send the page an event of ComfyUI's, whose detail is JavaScript."""
    canvas.page.evaluate(
        f"""async () => {{
          const {{ api }} = await import('/scripts/api.js');
          const {{ inside, outside, path }} = window.nested;
          const drawing = Object.assign(document.createElement('canvas'), {{ width: 64, height: 64 }});
          const blob = await new Promise((done) => drawing.toBlob(done));
          api.dispatchCustomEvent({kind!r}, {detail});
        }}"""
    )


def wait_for_image(canvas: CanvasPage, which: str, there: bool) -> None:
    canvas.page.wait_for_function(
        f"([which, there]) => {{ const node = window.nested[which];"
        f" return {PANEL}.querySelector('.pp-image').hasAttribute('src') === there }}",
        arg=[which, there],
    )


def images(canvas: CanvasPage) -> list[Any]:
    return canvas.page.evaluate(
        f"() => ['inside', 'outside'].map((which) => {{ const node = window.nested[which];"
        f" return {PANEL}.querySelector('.pp-image').hasAttribute('src') }})"
    )


def test_a_preview_goes_to_the_node_inside_that_runs_and_ends_when_another_does(nested):
    ids = "nodeId: path, displayNodeId: path, parentNodeId: path, realNodeId: path"
    tell(nested, "b_preview_with_metadata", f"{{ blob, {ids}, promptId: 'a', jobId: 'a' }}")
    wait_for_image(nested, "inside", True)
    assert images(nested) == [True, False]
    tell(nested, "executing", "String(outside.id)")
    wait_for_image(nested, "inside", False)


def test_what_a_run_told_the_node_outside_is_not_shown_inside(nested):
    row = "{ anchor: 1, box: [0, 0, 9, 9], score: 0.5, final: true }"
    detail = (
        f"{{ node: String(outside.id), display_node: String(outside.id), prompt_id: 'a',"
        f" output: {{ pinpoint_candidates: [{row}], pinpoint_choice: [1] }} }}"
    )
    tell(nested, "executed", detail)
    chips = nested.page.evaluate(
        f"""async () => {{
          const {{ inside }} = window.nested;
          inside.onConfigure?.(inside.serialize());
          await new Promise((done) => setTimeout(done, 1000));
          return ['inside', 'outside'].map((which) => {{
            const node = window.nested[which];
            return {PANEL}.querySelectorAll('.pp-chip').length;
          }});
        }}"""
    )
    assert chips == [0, 2]


def test_loading_a_workflow_anew_leaves_nothing_going_for_the_subgraphs_nodes_that_it_replaces(nested):
    """As undo does; of the nodes inside, the frontend tells none that it is gone."""
    counts = nested.page.evaluate(
        """async () => {
          const [start, stop] = [window.setInterval, window.clearInterval], timers = new Set();
          window.setInterval = (...given) => {
            const timer = start(...given);
            if (new Error().stack.includes('/extensions/pinpoint/')) timers.add(timer);
            return timer;
          };
          window.clearInterval = (timer) => (timers.delete(timer), stop(timer));
          try {
            const counts = [];
            for (let time = 0; time < 3; time++) {
              await app.loadGraphData(app.graph.serialize());
              counts.push(timers.size);
            }
            return counts;
          } finally {
            Object.assign(window, { setInterval: start, clearInterval: stop });
          }
        }"""
    )
    assert counts[0] > 0 and len(set(counts)) == 1
