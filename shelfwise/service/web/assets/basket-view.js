// The basket view: quantities, total and a simulated purchase.

import { api } from "./api.js";
import { MAX_OF_ONE, buy, lines, renew, setQuantity, sums } from "./basket.js";
import { productAddress } from "./cards.js";
import { el, fill, keepFocus } from "./dom.js";
import { mark } from "./picture.js";
import { announce } from "./announce.js";
import { money, t } from "./words.js";

/** The view of the basket. */
export function basketView() {
  const element = el("div", { class: "basket" });
  const title = el("h1", { id: "view-title", tabindex: "-1", text: t("basket title") });
  const content = el("div");
  element.append(title, content);

  const render = () => {
    const hadFocus = content.contains(document.activeElement);
    const there = lines();
    keepFocus(content, () => fill(content, there.length ? [el("ul", { class: "lines", role: "list" }, there.map((each) => line(each, render))), total(finish)] : empty()));
    if (hadFocus && !content.contains(document.activeElement)) title.focus();
  };
  const finish = () => {
    const count = buy().reduce((sum, each) => sum + each.quantity, 0);
    title.textContent = t("thanks title");
    fill(content, el("div", { class: "none" }, el("p", { text: t("thanks", { count }) }), lookAround()));
    title.focus();
    announce(t("thanks", { count }));
  };
  return {
    element,
    title: () => title.textContent,
    async show() {
      render();
      await Promise.all(lines().map(async (each) => {
        try {
          renew(each, await api.product(each.id));
        } catch (error) {
          if (error.status === 404) renew(each, null);
        }
      }));
      if (lines().length) render();
    },
    leave() {},
  };
}

function line(each, render) {
  const name = each.option ? `${each.title} (${each.option})` : each.title;
  const set = (quantity) => {
    setQuantity(each, quantity);
    if (!quantity) announce(t("removed", { name }));
    render();
  };
  const count = el("input", {
    type: "number", min: 0, max: MAX_OF_ONE, inputmode: "numeric", value: each.quantity, "aria-label": t("quantity", { name }),
    "data-key": `count ${each.id} ${each.variant}`, onchange: (event) => set(event.target.valueAsNumber || 0),
  });
  const out = el("button", {
    type: "button", class: "quiet", "aria-label": t("take out named", { name }), "data-key": `out ${each.id} ${each.variant}`,
    onclick: () => set(0), text: t("take out"),
  });
  const cost = each.gone ? t("line gone") : money(each.price === null ? null : each.price * each.quantity, each.currency);
  return el("li", { class: each.gone ? "line gone" : "line" }, mark(each),
    el("div", { class: "line-name" }, el("a", { href: productAddress(each.id), text: each.title, lang: each.language || undefined }),
      el("small", { text: [each.brand, each.option].filter(Boolean).join(" · ") })),
    count, el("b", { class: "line-cost", text: cost }), out);
}

function total(finish) {
  const sum = Array.from(sums(), ([currency, amount]) => money(amount, currency)).join(" + ");
  return el("div", { class: "sum" }, el("p", {}, el("span", { text: t("total") }), el("b", { text: sum || "–" })),
    el("button", { type: "button", class: "primary buy", text: t("buy"), onclick: finish }), el("small", { text: t("buy note") }));
}

function empty() {
  return el("div", { class: "none" }, el("p", { text: t("basket empty") }), lookAround());
}

function lookAround() {
  return el("p", {}, el("a", { class: "primary", href: "/", text: t("keep looking") }));
}
