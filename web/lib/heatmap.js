/** Maps as the nodes pack them ({rows, columns, values: base64 of bytes}), drawn as heat or as an outline. */

const STOPS = [
  [0, 0, 4],
  [31, 12, 72],
  [85, 15, 109],
  [136, 34, 106],
  [186, 54, 85],
  [227, 89, 51],
  [249, 140, 10],
  [249, 201, 50],
  [252, 255, 164],
];

/** {rows, columns, bytes} of a packed map. */
export function unpacked({ rows, columns, values }) {
  return { rows, columns, bytes: Uint8Array.from(atob(values), (character) => character.charCodeAt(0)) };
}

/** The colour of a share 0 to 255: matplotlib's inferno, by nine of its colours. */
export function inferno(share) {
  const position = (share / 255) * (STOPS.length - 1);
  const low = Math.min(Math.floor(position), STOPS.length - 2);
  return STOPS[low].map((from, channel) => Math.round(from + (STOPS[low + 1][channel] - from) * (position - low)));
}

/** Paint a map on a canvas of its own size, dark and thin to bright and thick. */
export function paintHeatmap(canvas, { rows, columns, bytes }) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  bytes.forEach((share, at) => image.data.set([...inferno(share), Math.round(255 * (0.55 + (0.45 * share) / 255))], 4 * at));
  context.putImageData(image, 0, 0);
}

/** The edge of what is over half, as an SVG path in units of the map's cells; empty where nothing is. */
export function outlinePath({ rows, columns, bytes }) {
  const inside = (row, column) =>
    row >= 0 && column >= 0 && row < rows && column < columns && bytes[row * columns + column] > 127;
  const parts = [];
  // Runs of edges along each line of the grid, so that a long straight edge is one stroke.
  const runs = (lines, length, differs, draw) => {
    for (let line = 0; line <= lines; line++) {
      let from = -1;
      for (let at = 0; at <= length; at++) {
        const edge = at < length && differs(line, at);
        if (edge && from < 0) from = at;
        else if (!edge && from >= 0) parts.push(draw(line, from, at)), (from = -1);
      }
    }
  };
  runs(rows, columns, (row, at) => inside(row - 1, at) !== inside(row, at), (row, from, to) => `M${from} ${row}H${to}`);
  runs(columns, rows, (column, at) => inside(at, column - 1) !== inside(at, column), (column, from, to) => `M${column} ${from}V${to}`);
  return parts.join("");
}

/** An SVG that draws a packed mask's outline over whatever it covers. */
export function outline(mask) {
  const space = "http://www.w3.org/2000/svg";
  const map = unpacked(mask);
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "pp-outline");
  svg.setAttribute("viewBox", `0 0 ${map.columns} ${map.rows}`);
  svg.setAttribute("preserveAspectRatio", "none");
  for (const kind of ["pp-outline-under", "pp-outline-over"]) {
    const path = document.createElementNS(space, "path");
    path.setAttribute("class", kind);
    path.setAttribute("d", outlinePath(map));
    svg.append(path);
  }
  return svg;
}
