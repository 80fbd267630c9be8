// The picture of a product; without one, a drawing of its type in its colour.

import { sentPicture } from "./api.js";
import { el, pictureUrl } from "./dom.js";

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

const WORDS = DRAWINGS.flatMap(([words, ...parts]) => words.split("|").map((word) => ({ word, parts, find: new RegExp(/[^\x00-\x7f]/.test(word) ? word : `(?<![\\w-])${word}(?:e?s)?(?![\\w-])`, "gi") })));
/** The end of the head of a title's noun phrase. */
const REST = /[,(（，]| - | (?:for|with|by|in|of) /i;

/** Words for colours and materials, with the paint for each. */
const PAINTS = [
  ["black oxide|iron|铸铁|graphite", "#4a4e52"],
  ["black|黑", "#3a3d42"], ["white|ivory|白|ceramic|porcelain|陶瓷|搪瓷", "#f4f4f1"], ["gr[ae]y|silver|灰|银", "#9aa0a6"],
  ["red|红", "#c8524d"], ["orange|橙", "#dd8a45"], ["yellow|gold|黄|金色", "#e2bd55"], ["green|绿", "#5d9a6a"],
  ["blue|navy|蓝", "#5a86b8"], ["purple|violet|紫", "#8b6fae"], ["pink|粉", "#e3a3b4"], ["brown|棕|咖", "#8a6448"],
  ["beige|cream|米|linen|亚麻|棉麻", "#e6dcc6"], ["terracotta|红陶|clay", "#c4714b"], ["glass|玻璃", "#bcd6dc"],
  ["leather|真皮|walnut|acacia|乌檀木", "#8a5f3c"], ["bamboo|oak|pine|竹木", "#cda56c"], ["concrete|水泥", "#b3b3ae"],
  ["steel|alumini?um|titanium|cobalt|carbide|钢|铝|钛|合金", "#aab2ba"],
].map(([words, paint]) => [new RegExp(words, "i"), paint]);

const SENT = { direct: /^file:/i, http: /^(http|file):/i, all: /^(https?|file):/i };
let sent = SENT.direct;

/** Sets which pictures of other servers this server sends: "http", "all", or "direct" for none; local files, always. */
export function usePictures(source) {
  sent = SENT[source];
}

/** The address from which a picture of a product is loaded, for a `width` in pixels; empty if it cannot be. */
function pictureAddress({ id, images, variants = [] }, url, width) {
  const number = [...new Set([...images, ...variants.map((each) => each.image).filter(Boolean)])].indexOf(url);
  return sent.test(url) && number >= 0 ? sentPicture(id, number, width) : pictureUrl(url);
}

/**
 * A picture of fixed proportions: the one at the address `first`, by default that of the variant, else the product's first.
 * `eager` if it is visible immediately.
 */
export function picture(product, { eager = false, variant, first = variant?.image, width = 320, kind = "picture" } = {}) {
  const url = [first, ...product.images].filter(Boolean).map((each) => pictureAddress(product, each, width)).find(Boolean);
  if (!url) return drawn(product, variant, kind);
  const onerror = () => image.replaceWith(drawn(product, variant, kind));
  const image = el("img", { class: kind, src: url, alt: "", loading: eager ? "eager" : "lazy", decoding: "async", referrerpolicy: "no-referrer", onerror });
  return image;
}

/** A small picture for lists. */
export function mark(product, variant) {
  return picture(product, { variant, kind: "picture mark" });
}

function drawn(product, variant, kind) {
  const root = product.category[0] || product.brand || product.title;
  const parts = drawingOf(product);
  // One of 24 hues, by a hash of the text.
  return el("div", { class: `${kind} drawn`, "aria-hidden": "true", "--hue": ((hash(root) >>> 9) % 24) * 15, "--paint": paintOf(product, variant) },
    el("svg", { viewBox: "0 0 64 64", focusable: "false" }, parts.map((part, at) => (at % 2 ? el("path", { class: parts[at - 1], d: part }) : null))));
}

/** The paint for a colour or material word, else the CSS colour of that name, else undefined. */
export function paintOfWord(word) {
  const known = PAINTS.find(([words]) => words.test(word));
  if (known) return known[1];
  return /^[a-z]{3,20}$/i.test(word) && CSS.supports("color", word) ? word.toLowerCase() : undefined;
}

/** The paint of a variant, by default the first, or of the product. */
function paintOf({ attributes, variants }, variant = variants?.[0]) {
  const options = Object.entries(variant?.options || {}).map(([name, value]) => [name.toLowerCase(), value]);
  const values = { ...attributes, ...Object.fromEntries(options) };
  const words = ["color", "colour", "product_colour", "ink_color", "material"].flatMap((name) => values[name]);
  return words.filter((each) => typeof each === "string").map((each) => paintOfWord(each.trim())).find(Boolean);
}

function hash(text) {
  let sum = 2166136261;
  for (const letter of text) sum = Math.imul(sum ^ letter.codePointAt(0), 16777619) >>> 0;
  return sum;
}

/** The drawing for a product, by the type that its title names last, else by its category, else a parcel. */
function drawingOf({ title, category }) {
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
    for (const match of text.matchAll(find)) {
      const at = match.index + match[0].length;
      if (at > end || (at === end && word.length > best.word.length)) [best, end] = [{ word, parts }, at];
    }
  }
  return best?.parts;
}
