/** Boxes as the text that the node keeps: lines word=x0,y0,x1,y1 in pixels, x1 and y1 just outside. */

const LINE = /^([^=]*)=(.*)$/s;

/** The lines of a text: {word, box: [x0, y0, x1, y1]}, or {raw} for one that reads otherwise. */
export function linesOf(text) {
  return String(text ?? "")
    .split(/[\n;]/)
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) => {
      const [, word, numbers] = LINE.exec(line) ?? [];
      const sides = (numbers ?? "").split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
      return sides.length === 4 && sides.every(Number.isFinite) ? { word: word.trim(), box: sides } : { raw: line };
    });
}

/** The text of lines. */
export function textOf(lines) {
  return lines.map((line) => line.raw ?? `${line.word}=${line.box.map(rounded).join(",")}`).join("\n");
}

const rounded = (side) => String(Math.round(side * 100) / 100);
