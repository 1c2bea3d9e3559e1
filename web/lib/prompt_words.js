/** The words of a prompt, as Parse Prompt finds them: which name things, and which describe which thing. */

const WORD = /[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:['’‐‑-][\p{L}\p{M}\p{N}]+)*/gu;

/** Words as the core compares them: whatever their capitals and apostrophes. */
export const keyOf = (word) => word.normalize("NFC").toLowerCase().replaceAll("’", "'");

/** The words of a text, in order: {text, name}; the second cat is called cat#2. */
export function wordsOf(text) {
  const times = new Map();
  return [...String(text ?? "").matchAll(WORD)].map(([word]) => {
    const time = (times.get(keyOf(word)) ?? 0) + 1;
    times.set(keyOf(word), time);
    return { text: word, name: time > 1 ? `${word}#${time}` : word };
  });
}

/** The items of a list separated by commas or lines. */
export const itemsOf = (text) =>
  String(text ?? "")
    .split(/[,\n;]/)
    .map((item) => item.trim())
    .filter(Boolean);

/**
 * The words of `text` with what is known of them: {text, name, tokens, noun: its number among the nouns, or -1,
 * describes: the index of the noun that an adjective belongs to, or -1}. `parsed` is what the node's last run found,
 * which words of a changed text keep; the artist's own `nouns` and `bindings` go before it.
 */
export function markedWords(text, parsed, nouns = "", bindings = "") {
  const words = wordsOf(text).map((word) => ({ ...word, tokens: 0, isNoun: false, describes: -1 }));
  const places = new Map(words.map((word, index) => [keyOf(word.name), index]));
  const place = (name) => places.get(keyOf(name)) ?? places.get(keyOf(name).replace(/#1$/, "")) ?? -1;
  const known = wordsOf(parsed?.text ?? "").map((word, index) => ({ ...parsed.words[index], ...word }));
  for (const word of known) {
    const at = place(word.name);
    if (at >= 0) Object.assign(words[at], { tokens: word.tokens ?? 0, isNoun: Boolean(word.noun) });
  }
  const own = itemsOf(nouns);
  if (own.length) {
    for (const word of words) word.isNoun = false;
    for (const name of own) {
      // A phrase of several words is one thing: each of its words is marked.
      const at = place(name);
      const parts = at >= 0 ? [at] : wordsOf(name).map((part) => place(part.text));
      for (const part of parts) if (part >= 0) words[part].isNoun = true;
    }
  }
  const pairs = itemsOf(bindings)
    .map((item) => item.split(":").map((part) => place(part.trim())))
    .filter((pair) => pair.length === 2)
    .map(([adjective, noun]) => [noun, adjective]);
  const found = (parsed?.pairs ?? []).map((pair) => pair.map((index) => place(known[index]?.name ?? "")));
  for (const [noun, adjective] of pairs.length ? pairs : found) {
    if (words[noun]?.isNoun && words[adjective] && noun !== adjective) words[adjective].describes = noun;
  }
  let count = 0;
  for (const word of words) word.noun = word.isNoun ? count++ : -1;
  return words;
}
