// The home view: recommendations, recently viewed products, categories and popular products.

import { ALL, addressOf } from "./address.js";
import { api, productsOf } from "./api.js";
import { row } from "./cards.js";
import { el, fill } from "./dom.js";
import { picture } from "./picture.js";
import { history, stored } from "./visitor.js";
import { number, t } from "./words.js";

const IN_ROW = 8;
const TILES = 24;

/** The home view. */
export function homeView(shop) {
  const lead = el("p", { class: "lead", text: "\u00a0" });
  const rows = el("div", { class: "rows" });
  const show = async () => {
    const [start, own, past] = await Promise.all([shop.start(), forYou(shop).catch(() => []), recent().catch(() => [])]);
    lead.textContent = t("welcome more", { count: start.total });
    fill(rows, row(t("for you"), own), row(t("seen"), past), popularRows(start).toReversed(),
      el("p", { class: "after" }, el("a", { class: "primary", href: "./?all=1", text: t("browse all") })));
  };
  const title = el("h1", { id: "view-title", tabindex: "-1", text: t("welcome") });
  return { element: el("div", { class: "home" }, el("div", { class: "hero" }, title, lead), rows), content: rows, show };
}

/** Popular products and categories, as for searches without hits. */
export function popularRows(start) {
  return [row(t("popular"), start.hits.slice(0, IN_ROW)), tiles(start)];
}

async function forYou(shop) {
  if (!history().length) return [];
  const { language } = await shop.start();
  return api.recommend(history(), IN_ROW, language);
}

async function recent() {
  const ids = stored("seen").slice(0, IN_ROW);
  const found = await productsOf(ids);
  return found.sort((one, other) => ids.indexOf(one.id) - ids.indexOf(other.id)).map((product) => ({ product }));
}

function tiles(start) {
  const roots = (start.facets.category?.counts || []).filter(({ value }) => !value.includes(" > ")).slice(0, TILES);
  if (!roots.length) return null;
  const tile = ({ value, count }) => {
    const drawn = picture({ id: value, title: value, category: [value], images: [], attributes: {} });
    return el("li", {}, el("a", { class: "tile", href: addressOf({ ...ALL, filters: { category: [value] } }) }, drawn,
      el("span", { text: value }), el("small", { text: number(count) })));
  };
  return el("section", { class: "row", "aria-label": t("categories") }, el("h2", { text: t("categories") }),
    el("ul", { class: "tiles", role: "list" }, roots.map(tile)));
}
