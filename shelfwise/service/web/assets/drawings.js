// Drawings of product types, 64 by 64 units, for products without pictures.

/**
 * Words that name a kind, then its parts: the paint and the outline of each. The paints are (m)ain, (d)arker and
 * (l)ighter, (k) black, (g)rey metal, (w)hite, (n) wood, (y)ellow light, (v) leaves; (s), (h) and (t) are lines: main,
 * black, thin. The last one is for a product of another kind.
 */
const DRAWINGS = await (await fetch("/assets/drawings.json")).json();
const [, ...PARCEL] = DRAWINGS.at(-1);

/**
 * Words that name things of several trades, or a trade, with what the category must say to consent to the drawing: a
 * notebook is of paper only in stationery.
 */
const CONSENTS = new Map([
  ["notebook|笔记本|office|pen", /^(?!.*(computer|laptop|notebook pc|electronic|电脑|数码)).*(office|paper|station|school|writing|desk|办公|文具)/],
  ["blade|disc|tool|case", /tool|hardware|五金|工具/],
  ["board|pan|filter|container|lid|kitchen", /kitchen|cook|bak|food|coffee|dining|厨|锅/],
  ["top|clothing|lace|glove", /cloth|apparel|fashion|shoe|wear|garment|服|鞋/],
  ["pad|outdoor|camping|pole|cover", /outdoor|camp|sport|hik|bik|furniture|sofa|户外|运动|登山/],
  ["cream|beauty", /beaut|skin|cosmetic|health|care|美妆|护/],
  ["food|pet|tower", /pet|dog|cat\b|cats|animal|宠|猫|狗/],
  ["brick|car|truck|game|toy|bear", /toy|game|kid|child|bab|玩具/],
  ["pot|garden|feeder|nozzle", /garden|plant|bird|lawn|water|园|花/],
  ["electronics|audio", /electronic|audio|数码/],
  ["furniture|shelf", /furniture|home|storage|家/],
].flatMap(([words, consent]) => words.split("|").map((word) => [word, consent])));

const WORDS = DRAWINGS.flatMap(([words, ...parts]) => words.split("|").map((word) => ({ word, parts, find: finder(word) })));
/** The end of the head of a title's noun phrase. */
const REST = /[,(（，]| - | (?:for|with|by|in|of) /i;

/** The drawing for a product, by the type that its title names last, else by its category, else a parcel. */
export function drawingOf({ title, category }) {
  const path = category.join(" > ").toLowerCase();
  for (const text of [title.split(REST)[0], title, ...category.toReversed()]) {
    const found = named(text.slice(0, 200), path);
    if (found) return found;
  }
  return PARCEL;
}

/** The drawing of the word that ends last in a text and that the category consents to; of several, the longest. */
function named(text, path) {
  let best = null;
  let end = 0;
  for (const { word, parts, find } of WORDS) {
    if (CONSENTS.get(word)?.test(path) === false) continue;
    find.lastIndex = 0;
    for (const match of text.matchAll(find)) {
      const at = match.index + match[0].length;
      if (at > end || (at === end && word.length > best.word.length)) [best, end] = [{ word, parts }, at];
    }
  }
  return best?.parts;
}

function finder(word) {
  return /[^\x00-\x7f]/.test(word) ? new RegExp(word, "gi") : new RegExp(`(?<![\\w-])${word}(?:e?s)?(?![\\w-])`, "gi");
}
