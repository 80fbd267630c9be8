// Answers to questions: above the hits of a query that is a question, and on a product page.

import { ALL, addressOf, productAddress } from "./address.js";
import { api } from "./api.js";
import { announce, el, fill } from "./dom.js";
import { errorNotice } from "./cards.js";
import { names } from "./visitor.js";
import { t } from "./words.js";

const MIN_LETTERS = 4;
const MAX_LETTERS = 1000;
let about = null;

/** A box above hits. If the query is a question, `show` fills it with quotes or the message that no text answers it; else it empties the
 * box and forgets the subject of the previous question. */
export function answerBox() {
  const element = el("div");
  let request = new AbortController();
  const show = async (query) => {
    request.abort();
    fill(element);
    if (query.trim().length < MIN_LETTERS || query.length > MAX_LETTERS) return;
    request = new AbortController();
    const { signal } = request;
    const before = about;
    try {
      const answer = await api.answer({ q: query, ...(before && { about: before }) }, signal);
      if (signal.aborted) return;
      const isQuestion = answer.status !== "no_question";
      const { product_id: product, product_type: type } = answer.about;
      about = isQuestion && (product || type) ? answer.about : null;
      // The hits say more about a type of product than a note that no text does: "what laptop has 16gb ram".
      if (!isQuestion || (answer.status === "not_said" && type)) return;
      const drop = before && about && el("button", { type: "button", class: "quiet", onclick: () => { about = null; show(query); } }, t("answer drop"));
      const related = answer.related.map((each) => el("a", { href: addressOf({ ...ALL, q: each }), text: each }));
      fill(element, el("section", { class: "answer", "aria-label": t("answer") }, about && el("p", { class: "brand" }, product ? linkTo(about) : type), quotes(answer),
        related.length ? el("p", { class: "related" }, related) : null, drop));
    } catch {
      // Hits are shown without an answer; the previous subject may no longer exist.
      if (!signal.aborted) about = null;
    }
  };
  return { element, show, leave: () => request.abort() };
}

/** A field for questions about a product, with the answer below it. */
export function productQuestion(product) {
  const field = el("input", { type: "text", id: "question", maxlength: MAX_LETTERS, autocomplete: "off" });
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
  return el("form", { class: "answer", method: "dialog", onsubmit: () => ask(field.value) }, el("label", { for: "question", text: t("question") }),
    el("div", { class: "question" }, field, el("button", { type: "submit", class: "primary", text: t("ask") })), shown);
}

/** The quotes with their sources, or a message that no text answers. */
function quotes(answer) {
  if (answer.status !== "answered") {
    const nearest = answer.nearest && [el("p", { text: t("nearest sentence") }), el("blockquote", {}, el("p", { text: answer.nearest.text }))];
    return el("div", {}, el("p", { text: t("not said") }), nearest);
  }
  const verdict = answer.disagree ? t("texts disagree") : answer.holds === null ? "" : t(answer.holds ? "answer yes" : "answer no");
  announce(verdict || answer.quotes[0].text, { isShown: false });
  const quoted = (quote) => el("blockquote", {}, el("p", {}, quote.field === "title" ? linkTo(quote) : quote.text),
    quote.field === "title" ? null : el("p", { class: "source" }, source(quote, answer)));
  return el("div", {}, verdict ? el("p", { text: verdict }) : null, answer.quotes.map(quoted));
}

/** The source of a quote: an entry of the store, or part of a product page, linked unless the answer is about that product. */
function source(quote, answer) {
  if (quote.entry) return quote.title || t("store texts");
  const part = t(quote.field === "description" ? "description" : "details");
  return answer.about.product_id ? part : [part, " · ", linkTo(quote)];
}

function linkTo({ product_id: id, title }) {
  return el("a", { href: productAddress(id), text: title });
}
