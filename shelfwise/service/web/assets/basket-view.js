// The basket view: quantities, total and a simulated purchase.

import { productsOf } from "./api.js";
import { MAX_OF_ONE, buy, lines, setQuantity } from "./basket.js";
import { errorNotice, productAddress } from "./cards.js";
import { announce, el, fill, keepFocus } from "./dom.js";
import { mark } from "./picture.js";
import { money, t } from "./words.js";

/** The view of the basket. */
export function basketView() {
  const title = el("h1", { id: "view-title", tabindex: "-1", text: t("basket title") });
  const content = el("div");
  let products = [];

  const render = () => {
    const hadFocus = content.contains(document.activeElement);
    const all = lines().map((each) => {
      const product = products.find(({ id }) => id === each.id);
      const variant = product?.variants.find(({ id }) => id === each.variant);
      return { line: each, product, variant, price: variant?.price ?? product?.price };
    });
    keepFocus(content, () => fill(content, all.length ? [el("ul", { class: "lines", role: "list" }, all.map((each) => item(each, render))), total(all, finish)] : message(t("basket empty"))));
    if (hadFocus && !content.contains(document.activeElement)) title.focus();
  };
  const finish = (bought) => {
    const text = t("thanks", { count: bought.reduce((sum, { quantity }) => sum + quantity, 0) });
    buy(bought);
    title.textContent = t("thanks title");
    fill(content, message(text));
    title.focus();
    announce(text);
  };
  const show = async () => {
    try {
      products = await productsOf(lines().map(({ id }) => id));
      render();
    } catch (error) {
      fill(content, errorNotice(error, show));
    }
  };
  return { element: el("div", { class: "basket" }, title, content), title: () => title.textContent, show };
}

function item({ line, product, variant, price }, render) {
  const { id, name, quantity } = line;
  const key = `${id} ${line.variant}`;
  const set = (wanted) => {
    setQuantity(line, wanted);
    if (!wanted) announce(t("removed", { name }));
    render();
  };
  const amount = el("input", {
    type: "number", min: 0, max: MAX_OF_ONE, inputmode: "numeric", value: quantity, "aria-label": t("quantity", { name }),
    "data-key": `count ${key}`, onchange: (event) => set(event.target.valueAsNumber || 0),
  });
  const out = el("button", { type: "button", class: "quiet", "aria-label": t("take out named", { name }), "data-key": `out ${key}`, onclick: () => set(0), text: t("take out") });
  const cost = product ? money(price && price * quantity, product.currency) : t("line gone");
  return el("li", { class: product ? "line" : "line gone" }, product ? mark(product, variant) : el("span"),
    el("div", { class: "line-name" }, el("a", { href: productAddress(id), text: name, lang: product?.language || undefined }), el("small", { text: product?.brand })),
    amount, el("b", { class: "line-cost", text: cost }), out);
}

/** The total by currency, and the button to buy what the store still has. */
function total(all, finish) {
  const found = all.filter(({ product }) => product);
  const priced = Map.groupBy(found.filter(({ price }) => price), ({ product }) => product.currency);
  const sums = Array.from(priced, ([currency, own]) => money(own.reduce((sum, { line, price }) => sum + line.quantity * price, 0), currency));
  return el("div", { class: "sum" }, el("p", {}, el("span", { text: t("total") }), el("b", { text: sums.join(" + ") || "–" })),
    el("button", { type: "button", class: "primary buy", text: t("buy"), onclick: () => finish(found.map(({ line }) => line)) }), el("small", { text: t("buy note") }));
}

function message(text) {
  return el("div", { class: "none" }, el("p", { text }), el("p", {}, el("a", { class: "primary", href: "./", text: t("keep looking") })));
}
