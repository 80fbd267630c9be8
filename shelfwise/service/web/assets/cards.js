// Product cards in a grid or a row, placeholders while they load, and the notice if they cannot.

import { add } from "./basket.js";
import { productAddress } from "./address.js";
import { ICONS, announce, el, icon } from "./dom.js";
import { picture } from "./picture.js";
import { optionsInShort } from "./variants.js";
import { noteSponsored } from "./visitor.js";
import { money, number, t } from "./words.js";

/** The card of a product; `onchoose` is called before its page opens, `onadd` when it is added to the basket;
 * `more` is an additional element, `reason` the reason for its rank. */
function card(product, { onchoose, onadd, more = null, reason = "", eager = false, level = "h3" } = {}) {
  const link = el("a", { href: productAddress(product.id), text: product.title, lang: product.language || undefined });
  if (onchoose) ["click", "auxclick"].forEach((name) => link.addEventListener(name, (event) => event.button < 2 && onchoose()));
  return el("article", { class: "card", "data-product": product.id }, picture(product, { eager }),
    el("div", { class: "card-text" },
      el("p", { class: "brand", text: product.brand || "\u00a0" }), el(level, {}, link), more || optionsInShort(product),
      stars(product) || el("p", { class: "stars", text: "\u00a0" }),
      el("p", { class: "price-line" }, el("span", { class: "price", text: money(product.price, product.currency) }), regularPrice(product), availability(product)),
      reason ? el("p", { class: "reason", text: reason }) : null, addButton(product, { onadd })));
}

/** A grid of cards, marked up as a list; `more` returns an additional element for a hit, or null. */
export function grid(hits, { onchoose, onadd, more, className = "grid", level } = {}) {
  const item = (hit, index) => {
    const hears = { onchoose: onchoose && (() => onchoose(hit, index)), onadd: onadd && (() => onadd(hit, index)) };
    return el("li", {}, card(hit.product, { ...hears, more: more?.(hit, index), reason: hit.reason_line, eager: index < 4, level }));
  };
  return el("ul", { class: className, role: "list" }, hits.map(item));
}

/** A row of hits under a heading; false if there are none. */
export function row(title, hits) {
  return hits.length > 0 && el("section", { class: "row", "aria-label": title }, el("h2", { text: title }), grid(hits, { className: "grid strip" }));
}

/** The sponsored products, separate from the others; false if there are none. */
export function sponsoredStrip(hits) {
  if (!hits.length) return false;
  const more = ({ advertiser }) => el("p", { class: "payer", text: t("paid by", { advertiser }) });
  return el("section", { class: "sponsored", "aria-labelledby": "sponsored-title" }, el("h2", { id: "sponsored-title", text: t("sponsored") }),
    grid(hits, { onchoose: noteSponsored, more, className: "grid strip" }));
}

/** `count` empty cards of the same size. */
export function skeletons(count) {
  const one = () => el("li", {}, el("div", { class: "card empty" }, el("div", { class: "picture" }),
    el("div", { class: "card-text" }, el("p"), el("p"), el("p"))));
  return el("ul", { class: "grid", "aria-hidden": "true" }, Array.from({ length: count }, one));
}

export function stars(product) {
  if (product.rating === null) return null;
  const label = t("rating", { rating: product.rating, count: product.rating_count ?? 0 });
  return el("p", { class: "stars" }, el("span", { class: "sr", text: label }),
    el("span", { "aria-hidden": "true" }, el("b", { text: "★" }), ` ${product.rating.toFixed(1)}`,
      product.rating_count === null ? null : el("small", { text: ` (${number(product.rating_count)})` })));
}

const REGULAR = ["regular_price", "list_price", "compare_at_price", "msrp"];

/** The regular price, struck through, and the saving, if the product costs less; else null. */
export function regularPrice(product) {
  const regular = REGULAR.map((name) => product.attributes[name]).find((value) => typeof value === "number");
  if (!regular || product.price === null || regular <= product.price) return null;
  const saved = Math.round(100 * (1 - product.price / regular));
  return [el("s", { class: "regular" }, el("span", { class: "sr", text: t("regular price") }), money(regular, product.currency)),
    saved ? el("span", { class: "tag saved", text: `−${saved}%` }) : null];
}

/** The availability; null for "in stock" unless `always`. */
export function availability(product, { always = false } = {}) {
  const value = product.availability;
  if (!value || (value === "in_stock" && !always)) return null;
  return el("span", { class: `tag ${value}`, text: t(`availability.${value}`) });
}

export function addButton(product, { variantOf = () => null, onadd } = {}) {
  const press = () => {
    onadd?.();
    add(product, variantOf());
    announce(t("added", { name: product.title }));
  };
  const props = { type: "button", class: "add", "aria-label": t("add named", { name: product.title }), onclick: press, disabled: product.availability === "out_of_stock" };
  return el("button", props, icon(ICONS.plus), el("span", { text: t("add") }));
}

/** The notice of a failed request, with advice; `again` retries. */
export function errorNotice(error, again) {
  let text = t("out of reach");
  if (error.status === 401 || error.status === 403) text = t("needs key");
  else if (error.status) text = t("refused", { message: error.message });
  return el("div", { class: "none", role: "alert" }, el("p", { text }),
    el("p", {}, el("button", { type: "button", class: "primary", text: t("retry"), onclick: again })));
}
