// Selection of an ordered list of products by search.

import { withParameters } from "./address.js";
import { call, productPath } from "./api.js";
import { button, field } from "./admin-ui.js";
import { el, fill } from "./dom.js";

const OFFERED = 6;
const PAUSE_MS = 200;

/** A search field that calls `pick` with the id and, if known, the title of a product; `chosen` ids are not offered. */
function productSearch(label, pick, chosen) {
  const offers = el("ul", { class: "offers", "aria-label": "Products found" });
  const search = field(label, { placeholder: "Title, words or id", type: "search", wide: true });
  const take = (id, title) => {
    search.input.value = "";
    fill(offers);
    pick(id, title);
  };
  const offer = async () => {
    const typed = search.input.value.trim();
    if (!typed) return fill(offers);
    const { hits } = await call(withParameters("/v1/search", { q: typed, size: OFFERED, prefix: true }));
    if (search.input.value.trim() !== typed) return undefined;
    const found = hits.filter(({ product }) => !chosen.includes(product.id));
    return fill(offers, found.length
      ? found.map(({ product: { id, title } }) => el("li", {}, button(`${title} (${id})`, () => take(id, title), "quiet")))
      : el("li", { class: "hint", text: "No other product is found; press Enter to use the typed text as an id." }));
  };
  let waiting = 0;
  search.input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => offer().catch(() => fill(offers)), PAUSE_MS);
  });
  search.input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const typed = search.input.value.trim();
    if (typed) take(typed);
  });
  return { elements: [search.element, offers], input: search.input };
}

/** A picker with the products of these ids; `value()` returns the selected ids in order. */
export function productPicker(label, ids = []) {
  const chosen = [...ids];
  const titles = new Map();
  const list = el("ol", { class: "chosen", "aria-label": label });
  const search = productSearch(label, (id, title) => {
    if (title) titles.set(id, title);
    if (!chosen.includes(id)) chosen.push(id);
    name(id);
    show();
    search.input.focus();
  }, chosen);
  const show = (focused) => {
    fill(list, chosen.map((id, at) => {
      const title = titles.get(id) || id;
      const move = (to) => {
        chosen.splice(to, 0, ...chosen.splice(at, 1));
        show(to);
      };
      return el("li", {}, el("span", { class: "named", text: titles.has(id) ? `${title} (${id})` : id }),
        button("↑", () => at && move(at - 1), "small", { "aria-label": `Up: ${title}`, disabled: !at }),
        button("↓", () => at + 1 < chosen.length && move(at + 1), "small", { "aria-label": `Down: ${title}`, disabled: at + 1 === chosen.length }),
        button("Remove", () => (chosen.splice(at, 1), show(Math.min(at, chosen.length - 1))), "small", { "aria-label": `Remove: ${title}` }));
    }));
    if (focused !== undefined) (list.children[focused]?.querySelector("button:enabled") || search.input).focus();
  };
  const name = (id) => titles.has(id) || call(productPath(id)).then(({ product }) => (titles.set(id, product.title), show()), () => {});
  show();
  ids.forEach(name);
  return { element: el("div", { class: "picker" }, list, search.elements), input: search.input, value: () => [...chosen] };
}
