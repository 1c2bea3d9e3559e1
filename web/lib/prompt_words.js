/** The words of a prompt, as Parse Prompt finds them: which name objects, and which describe which object. */

const WORD = /[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:['’‐‑-][\p{L}\p{M}\p{N}]+)*/gu;

/** What stands in `nouns` where no word names an object: left empty, the nouns are found by grammar. */
export const NO_NOUN = "-";

/** Words as the core compares them: whatever their capitals and apostrophes. */
export const keyOf = (word) => word.normalize("NFC").toLowerCase().replaceAll("’", "'");

/** The words of a text, in order: {text, key, name, start, end}; the second cat is called cat#2. */
export function wordsOf(text) {
  const times = new Map();
  return [...String(text ?? "").matchAll(WORD)].map(({ 0: word, index: start }) => {
    const key = keyOf(word);
    const time = (times.get(key) ?? 0) + 1;
    times.set(key, time);
    return { text: word, key, name: time > 1 ? `${word}#${time}` : word, start, end: start + word.length };
  });
}

/** The items of a list separated by commas or lines. */
export const itemsOf = (text) =>
  String(text ?? "")
    .split(/[,\n;]/)
    .map((item) => item.trim())
    .filter(Boolean);

/**
 * Which of a text's words a name names: the index of one, or those of a phrase whose words stand side by side; none
 * where it is not in the text.
 */
function located(words, text, name) {
  const [, phrase, time] = /^(.*?)(?:#(\d+))?$/s.exec(name.trim());
  const keys = phrase.trim().split(/\s+/).map(keyOf);
  const follows = (at) => !text.slice(words[at - 1].end, words[at].start).trim();
  const begins = [...words.keys()].filter((from) =>
    keys.every((key, step) => {
      const at = from + step;
      return at < words.length && words[at].key === key && (step === 0 || follows(at));
    }),
  );
  const from = begins[Number(time ?? 1) - 1];
  return from === undefined ? [] : keys.map((_, step) => from + step);
}

/** Of a phrase, its last word is the object. */
const objectIn = (words, text, name) => located(words, text, name).at(-1) ?? -1;

/**
 * The words of `given` with what is known of them: {text, name, tokens, noun: its number among the nouns, or -1,
 * describes: the index of the noun that an adjective belongs to, or -1}. `parsed` is what the node's last run found,
 * which words of a changed text keep; the user's own `nouns` and `bindings` go before it.
 */
export function markedWords(given, parsed, nouns = "", bindings = "") {
  const text = String(given ?? "");
  const words = wordsOf(text).map((word) => ({ ...word, tokens: 0, isNoun: false, describes: -1 }));
  const object = (name) => objectIn(words, text, name);
  const known = wordsOf(parsed?.text).map((word, index) => ({ ...parsed.words[index], ...word }));
  for (const word of known) {
    const at = object(word.name);
    if (at >= 0) Object.assign(words[at], { tokens: word.tokens ?? 0, isNoun: Boolean(word.noun) });
  }
  const own = itemsOf(nouns);
  if (own.length) {
    const objects = new Set(own.map(object));
    words.forEach((word, at) => (word.isNoun = objects.has(at)));
  }
  const bound = itemsOf(bindings)
    .map((item) => item.split(":"))
    .filter((sides) => sides.length === 2)
    .flatMap(([adjective, noun]) => located(words, text, adjective).map((at) => [object(noun), at]))
    .filter(([noun]) => noun >= 0);
  // The user's own pairs say which words are objects, those found do not.
  for (const [noun] of bound) words[noun].isNoun = true;
  const found = (parsed?.pairs ?? []).map((pair) => pair.map((index) => object(known[index]?.name ?? "")));
  for (const [noun, adjective] of bound.length ? bound : found) {
    if (words[noun]?.isNoun && words[adjective] && noun !== adjective) words[adjective].describes = noun;
  }
  let count = 0;
  for (const word of words) word.noun = word.isNoun ? count++ : -1;
  return words;
}

/** `bindings` without the pairs of one of the text's words as an object: they alone would make it one. */
export function bindingsWithout(bindings, text, name) {
  const words = wordsOf(text);
  const gone = objectIn(words, text, name);
  return itemsOf(bindings)
    .filter((item) => objectIn(words, text, item.split(":")[1] ?? "") !== gone)
    .join(", ");
}
