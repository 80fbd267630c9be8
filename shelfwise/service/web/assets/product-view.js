// The product page: description, variants, related and similar products.

import { api, productsOf } from "./api.js";
import { addButton, availability, regularPrice, row, sponsoredStrip, stars } from "./cards.js";
import { ALL, addressOf } from "./address.js";
import { productQuestion } from "./answers.js";
import { ICONS, el, fill, icon } from "./dom.js";
import { picture } from "./picture.js";
import { siblingChoices, variantChoices } from "./variants.js";
import { note, rememberSeen } from "./visitor.js";
import { fieldName, money, t, valueName } from "./words.js";

const SIMILAR = 8;

/** The view of one product; `show` loads the product. */
export function productView(shop, id) {
  const skeleton = el("div", { class: "product-main", "aria-hidden": "true" }, el("div", { class: "photo" }, el("div", { class: "picture" })),
    el("div", { class: "product-text empty" }, el("p"), el("p"), el("p"), el("p")));
  const element = el("div", { class: "product" }, skeleton);
  const request = new AbortController();
  const load = async (isBack) => {
    const { product, siblings } = await api.product(id, request.signal);
    const choices = el("div", { class: "choices" });
    fill(element, page(product, shop, choices));
    productsOf(siblings, request.signal).then((others) => others.length && fill(choices, siblingChoices(product, others))).catch(() => {});
    if (!isBack) note("consultation", id);
    rememberSeen(id);
    await addRows().catch(() => {}); // the page is complete without them
  };
  const addRows = async () => {
    const [goesWith, instead, { hits, sponsored }, looks] = await Promise.all([
      api.related(id, "goes_with", SIMILAR), api.related(id, "substitute", SIMILAR), api.similar(id, SIMILAR),
      shop.facts.searches_pictures ? api.looksLike(id, SIMILAR) : [],
    ]);
    const isShown = new Set();
    for (const [name, found] of [["goes with", goesWith], ["instead", instead], ["similar", hits], ["looks like it", looks]]) {
      const others = found.filter((hit) => !isShown.has(hit.product.id));
      if (name !== "goes with") others.forEach((hit) => isShown.add(hit.product.id));
      element.append(row(t(name), others) || "");
    }
    element.append(sponsoredStrip(sponsored) || "");
  };
  const showGone = (error) => {
    if (error.status !== 404) throw error;
    fill(element, el("div", { class: "none" }, el("h1", { id: "view-title", tabindex: "-1", text: t("gone title") }),
      el("p", { text: t("gone advice") }), el("p", {}, el("a", { class: "primary", href: "./?all=1", text: t("browse all") }))));
  };
  return { element, content: element, show: (_place, { isBack }) => load(isBack).catch(showGone), leave: () => request.abort() };
}

function page(product, shop, choices) {
  const language = product.language || undefined;
  let variant;
  const cost = el("p", { class: "cost" });
  const stock = el("p", { class: "stock" });
  const image = el("div", { class: "photo" });
  const button = addButton(product, { variantOf: () => variant });
  const update = () => {
    const now = { ...product, price: variant?.price ?? product.price, availability: variant?.availability ?? product.availability };
    fill(cost, money(now.price, now.currency), " ", regularPrice(now));
    fill(stock, availability(now, { always: true }));
    fill(image, picture(product, { eager: true, variant, width: 640 }));
    button.disabled = now.availability === "out_of_stock";
  };
  update();
  const pick = (one) => {
    variant = one;
    update();
  };
  const brand = product.brand && shop.facts.facets.includes("brand")
    ? el("p", { class: "brand" }, el("a", { href: addressOf({ ...ALL, filters: { brand: [product.brand] } }), text: product.brand }))
    : null;
  return [
    crumbs(product),
    el("div", { class: "product-main" }, el("div", { class: "photos" }, image, thumbnails(product, image)),
      el("div", { class: "product-text" }, brand,
        el("h1", { id: "view-title", tabindex: "-1", text: product.title, lang: language }), stars(product), cost, stock,
        choices, variantChoices(product, pick), button, description(product, language))),
    productQuestion(product),
    details(product),
  ];
}

function crumbs(product) {
  const back = el("button", { type: "button", class: "quiet back", onclick: () => history.back() }, icon(ICONS.back), t("back"));
  const path = product.category.map((name, depth) => {
    const category = product.category.slice(0, depth + 1).join(" > ");
    return el("li", {}, el("a", { href: addressOf({ ...ALL, filters: { category: [category] } }), text: name, lang: product.language || undefined }));
  });
  const trail = path.length ? el("nav", { class: "crumbs", "aria-label": t("category") }, el("ol", { role: "list" }, path)) : null;
  return el("div", { class: "above" }, window.navigation?.canGoBack ? back : null, trail);
}

function thumbnails(product, image) {
  if (product.images.length < 2) return null;
  const one = (url, index) => {
    const press = () => fill(image, picture(product, { eager: true, first: url, width: 640 }));
    return el("li", {}, el("button", { type: "button", "aria-label": `${index + 1} / ${product.images.length}`, onclick: press }, picture(product, { first: url, width: 160 })));
  };
  return el("ul", { class: "thumbnails", role: "list" }, product.images.slice(0, 8).map(one));
}

function description(product, language) {
  if (!product.description) return null;
  const parts = product.description.split(/\n+/).map((text) => el("p", { text }));
  return el("section", { class: "description", "aria-label": t("description") }, el("div", { lang: language }, parts));
}

function details(product) {
  const rows = Object.entries(product.attributes).map(([name, value]) => {
    const values = Array.isArray(value) ? value : [value];
    return [fieldName(`attributes.${name}`), values.map((each) => valueName(`attributes.${name}`, each)).join(", ")];
  });
  for (const [kind, values] of Object.entries(product.identifiers)) rows.push([fieldName(kind), values.join(", ")]);
  if (!rows.length) return null;
  const lines = rows.slice(0, 60).map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", { text: value })));
  return el("section", { class: "details", "aria-labelledby": "details" }, el("h2", { id: "details", text: t("details") }), el("dl", {}, lines));
}
