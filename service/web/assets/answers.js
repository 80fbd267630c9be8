// Answers to questions: above the hits of a query that is one, and on the page of a product.

import { addressOf } from "./address.js";
import { announce } from "./announce.js";
import { api } from "./api.js";
import { el, fill } from "./dom.js";
import { errorNotice } from "./error-notice.js";
import { names } from "./visitor.js";
import { fieldName, t } from "./words.js";

const LEAST_LETTERS = 4;
const MOST_LETTERS = 1000;
let about = null;

/** A box above hits; `show` fills it if the query is a question that the store's texts answer, and empties it else. */
export function answerBox() {
  const element = el("div");
  let request = new AbortController();
  const show = async (query) => {
    request.abort();
    fill(element);
    if (query.trim().length < LEAST_LETTERS || query.length > MOST_LETTERS) return;
    request = new AbortController();
    const { signal } = request;
    const before = about;
    try {
      const answer = await api.answer({ q: query, ...(before && { about: before }) }, signal);
      if (signal.aborted || answer.status !== "answered") return;
      about = answer.about.product_id || answer.about.product_type ? answer.about : null;
      const drop = before && about && el("button", { type: "button", class: "quiet", onclick: () => { about = null; show(query); } }, t("answer drop"));
      fill(element, el("section", { class: "answer", "aria-label": t("answer") }, subject(answer.about), quotes(answer), drop));
    } catch {
      // The hits are there without it.
    }
  };
  return { element, show, leave: () => request.abort() };
}

/** A field for questions about a product, with the answer below it. */
export function productQuestion(product) {
  const field = el("input", { type: "text", id: "question", maxlength: MOST_LETTERS, autocomplete: "off" });
  const shown = el("div", { role: "status" });
  const ask = async (q) => {
    if (!q.trim()) return;
    try {
      const answer = await api.answer({ q, product_id: product.id, ...names() });
      const related = answer.related.map((each) => el("button", { type: "button", class: "quiet", onclick: () => { field.value = each; ask(each); } }, each));
      fill(shown, quotes(answer), related.length ? el("p", { class: "related" }, related) : null);
    } catch (error) {
      fill(shown, errorNotice(error, () => ask(q)));
    }
  };
  const onsubmit = (event) => {
    event.preventDefault();
    ask(field.value);
  };
  return el("form", { class: "answer", onsubmit }, el("label", { for: "question", text: t("question") }),
    el("div", { class: "question" }, field, el("button", { type: "submit", class: "primary", text: t("ask") })), shown);
}

function subject({ product_id: id, product_type: type, title }) {
  if (id) return el("p", { class: "brand" }, el("a", { href: addressOf({ view: "product", product: id }), text: title }));
  return type ? el("p", { class: "brand", text: type }) : null;
}

/** The quotes with their sources, or that nothing says it. */
function quotes(answer) {
  if (answer.status !== "answered") return el("p", { text: t("not said") });
  const verdict = answer.disagree ? t("texts disagree") : answer.holds === null ? "" : t(answer.holds ? "answer yes" : "answer no");
  announce(verdict || answer.quotes[0].text);
  return el("div", {}, verdict ? el("p", { text: verdict }) : null, answer.quotes.map((quote) => el("blockquote", {}, el("p", { text: quote.text }),
    el("p", { class: "source", text: quote.entry ? quote.title || t("store texts") : source(quote, answer) }))));
}

function source(quote, answer) {
  const name = quote.field === "description" ? t("description") : fieldName(quote.field);
  return answer.about.product_id ? name : `${name} · ${quote.title}`;
}
