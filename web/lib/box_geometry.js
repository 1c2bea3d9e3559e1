/** Boxes [x0, y0, x1, y1] on an image: what a pointer hits, and how a box moves and grows. */

/** Handles of a box, by the sides that they move: n, e, s, w and the corners. */
export const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

/** Where a handle is: [x, y]. */
export function handleAt([x0, y0, x1, y1], handle) {
  const x = handle.includes("w") ? x0 : handle.includes("e") ? x1 : (x0 + x1) / 2;
  const y = handle.includes("n") ? y0 : handle.includes("s") ? y1 : (y0 + y1) / 2;
  return [x, y];
}

/**
 * What is at a point: {index, handle} for a handle of the selected box, {index} for a box, null for none. Of boxes
 * over one another, the selected one, else the smallest.
 */
export function hit(boxes, selected, [x, y], reach) {
  const chosen = boxes[selected];
  if (chosen) {
    const near = HANDLES.map((handle) => {
      const [hx, hy] = handleAt(chosen, handle);
      return { handle, distance: Math.max(Math.abs(hx - x), Math.abs(hy - y)) };
    })
      .filter(({ distance }) => distance <= reach)
      .sort((a, b) => a.distance - b.distance)[0];
    if (near) return { index: selected, handle: near.handle };
  }
  const inside = boxesAt(boxes, [x, y]);
  if (!inside.length) return null;
  return { index: inside.includes(selected) ? selected : inside[0] };
}

/** The numbers of the boxes at a point, the smallest first. */
export function boxesAt(boxes, [x, y]) {
  return boxes
    .map((box, index) => ({ box, index }))
    .filter(({ box: [x0, y0, x1, y1] }) => x >= x0 && x <= x1 && y >= y0 && y <= y1)
    .sort((a, b) => area(a.box) - area(b.box))
    .map(({ index }) => index);
}

/** The box moved by (dx, dy), whole, inside an image of width and height; in whole pixels. */
export function moved([x0, y0, x1, y1], dx, dy, width, height) {
  const left = between(Math.round(x0 + dx), 0, Math.max(0, width - (x1 - x0)));
  const top = between(Math.round(y0 + dy), 0, Math.max(0, height - (y1 - y0)));
  return [left, top, left + (x1 - x0), top + (y1 - y0)];
}

/** The box with the sides of a handle moved by (dx, dy); at least one pixel remains, inside the image. */
export function resized([x0, y0, x1, y1], handle, dx, dy, width, height) {
  if (handle.includes("w")) x0 = between(Math.round(x0 + dx), 0, x1 - 1);
  if (handle.includes("e")) x1 = between(Math.round(x1 + dx), x0 + 1, width);
  if (handle.includes("n")) y0 = between(Math.round(y0 + dy), 0, y1 - 1);
  if (handle.includes("s")) y1 = between(Math.round(y1 + dy), y0 + 1, height);
  return [x0, y0, x1, y1];
}

/** The box between two points, inside the image, in whole pixels. */
export function spanned([ax, ay], [bx, by], width, height) {
  const [left, right] = [Math.min(ax, bx), Math.max(ax, bx)];
  const [top, bottom] = [Math.min(ay, by), Math.max(ay, by)];
  const x0 = between(Math.round(left), 0, width - 1);
  const y0 = between(Math.round(top), 0, height - 1);
  return [x0, y0, between(Math.round(right), x0 + 1, width), between(Math.round(bottom), y0 + 1, height)];
}

/** Whether a box has an area and lies inside the image, as the node requires. */
export function fits([x0, y0, x1, y1], width, height) {
  return x0 >= 0 && y0 >= 0 && x1 > x0 && y1 > y0 && x1 <= width && y1 <= height;
}

const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
const between = (value, low, high) => Math.min(Math.max(value, low), high);
