// The picture of a product; where there is none, a calm one: the first letter of its kind, in its category's hue.

import { el, pictureUrl } from "./dom.js";

const CHINESE_COLOURS = {
  黑: "#3a3d42", 白: "#f4f4f1", 灰: "#9aa0a6", 红: "#c8524d", 橙: "#dd8a45", 黄: "#e2bd55", 绿: "#5d9a6a", 蓝: "#5a86b8",
  紫: "#8b6fae", 粉: "#e3a3b4", 棕: "#8a6448", 米: "#e6dcc6",
};

/** A picture of fixed proportions; `eager` for one that is seen at once. */
export function picture(product, { eager = false } = {}) {
  const url = product.images.map(pictureUrl).find(Boolean);
  if (!url) return drawn(product);
  const loading = eager ? "eager" : "lazy";
  const image = el("img", { class: "picture", src: url, alt: "", loading, decoding: "async", referrerpolicy: "no-referrer" });
  image.addEventListener("error", () => image.replaceWith(drawn(product)), { once: true });
  return image;
}

/** A small mark for lists. */
export function mark(product) {
  const made = picture(product);
  made.classList.add("mark");
  return made;
}

function drawn(product) {
  const kind = product.category.at(-1) || product.title;
  const root = product.category[0] || product.brand || product.title;
  const turn = hash(product.id || product.title) % 360;
  const colour = colourOf(product.attributes);
  return el(
    "div",
    { class: "picture drawn", "aria-hidden": "true", "--hue": hueOf(root), "--turn": `${turn}deg`, "--paint": colour },
    el("i"),
    el("span", { text: Array.from(kind)[0] || "·" }),
  );
}

/** One of 24 hues. */
function hueOf(text) {
  return ((hash(text) >>> 9) % 24) * 15;
}

/** A colour that CSS knows by the product's word for it, or undefined. */
function colourOf(attributes) {
  const value = attributes.color ?? attributes.colour;
  const colour = String(Array.isArray(value) ? value[0] : (value ?? "")).trim();
  const chinese = Array.from(colour).reverse().find((letter) => letter in CHINESE_COLOURS);
  if (chinese) return CHINESE_COLOURS[chinese];
  return /^[a-z]{3,20}$/i.test(colour) && CSS.supports("color", colour) ? colour.toLowerCase() : undefined;
}

function hash(text) {
  let sum = 2166136261;
  for (const letter of text) sum = Math.imul(sum ^ letter.codePointAt(0), 16777619) >>> 0;
  return sum;
}
