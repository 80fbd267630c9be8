// The picture of a product; without one, a drawing of its type in its colour.

import { sentPicture } from "./api.js";
import { el, pictureUrl } from "./dom.js";
import { drawingOf } from "./drawings.js";

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

let sent = /^file:/i;

/** Sets which pictures of other servers this server sends: "http", "all", or "direct" for none; local files, always. */
export function usePictures(source) {
  sent = { http: /^(http|file):/i, all: /^(https?|file):/i }[source] || /^file:/i;
}

/** All pictures of a product, in the order of their numbers. */
export function picturesOf(product) {
  return [...new Set([...product.images, ...(product.variants || []).map((each) => each.image).filter(Boolean)])];
}

/** The address from which a picture of a product is loaded, for a `width` in pixels; empty if it cannot be. */
export function pictureAddress(product, url, width = 320) {
  const number = product.number ?? picturesOf(product).indexOf(url);
  return sent.test(url) && number >= 0 ? sentPicture(product.id, number, width) : pictureUrl(url);
}

/** A picture of fixed proportions, from the first address; `eager` if it is visible immediately. */
export function picture(product, { eager = false, addresses } = {}) {
  const url = (addresses || product.images.map((each) => pictureAddress(product, each))).find(Boolean);
  if (!url) return drawn(product);
  const loading = eager ? "eager" : "lazy";
  const image = el("img", { class: "picture", src: url, alt: "", loading, decoding: "async", referrerpolicy: "no-referrer" });
  const replace = () => {
    const other = drawn(product);
    if (image.classList.contains("mark")) other.classList.add("mark");
    image.replaceWith(other);
  };
  image.addEventListener("error", replace, { once: true });
  return image;
}

/** A small picture for lists. */
export function mark(product) {
  const made = picture(product);
  made.classList.add("mark");
  return made;
}

function drawn(product) {
  const root = product.category[0] || product.brand || product.title;
  const parts = drawingOf(product);
  // One of 24 hues, by a hash of the text.
  return el("div", { class: "picture drawn", "aria-hidden": "true", "--hue": ((hash(root) >>> 9) % 24) * 15, "--paint": paintOf(product) },
    el("svg", { viewBox: "0 0 64 64", focusable: "false" }, parts.map((part, at) => (at % 2 ? el("path", { class: parts[at - 1], d: part }) : null))));
}

/** The paint for a colour or material word, else the CSS colour of that name, else undefined. */
export function paintOfWord(word) {
  const known = PAINTS.find(([words]) => words.test(word));
  if (known) return known[1];
  return /^[a-z]{3,20}$/i.test(word) && CSS.supports("color", word) ? word.toLowerCase() : undefined;
}

/** The paint of a product, or of its first variant. */
function paintOf({ attributes, variants = [] }) {
  const options = Object.entries(variants[0]?.options || {}).map(([name, value]) => [name.toLowerCase(), value]);
  const values = { ...attributes, ...Object.fromEntries(options) };
  const names = ["color", "colour", "product_colour", "ink_color", "material"];
  const words = names.map((name) => [values[name]].flat()[0]).filter((each) => typeof each === "string");
  return words.map((each) => paintOfWord(each.trim())).find(Boolean);
}

function hash(text) {
  let sum = 2166136261;
  for (const letter of text) sum = Math.imul(sum ^ letter.codePointAt(0), 16777619) >>> 0;
  return sum;
}
