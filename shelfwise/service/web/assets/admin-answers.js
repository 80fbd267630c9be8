// Answers: shoppers' questions without an answer, and the texts used to answer questions.

import { call, withParameters } from "./api.js";
import { button, counts, field, formOf, head, lineForm, listPart, number, opener, table } from "./admin-ui.js";
import { el, fill } from "./dom.js";

const MOST_SHOWN = 100;

export function answersPart() {
  const words = field("Find a text", { type: "search", placeholder: "words in the text", wide: true });
  const part = listPart(async ({ list, past }) => {
    const { questions } = await call("/v1/answers/unanswered");
    fill(past, el("section", {}, el("h2", { text: "Questions without an answer" }), questions.length ? table("Questions without an answer", [
      ["question", ({ text, about }) => el("div", {}, text, hint(about.title || about.product_type))],
      ...counts("times"),
      ["", (each) => opener("Answer", each.text, () => edit(entryFor(each)))],
    ], questions) : el("p", { text: "Every question of enough shoppers has an answer. A refresh of the derived tables counts them." })));
    const q = words.value();
    const { total, documents: entries } = await call(withParameters("/v1/answers", { limit: MOST_SHOWN, q }));
    const none = q ? "No text has these words." : "There are no answer texts yet. Questions are answered from product texts.";
    const counted = total > entries.length ? `The first ${number(entries.length)} of ${number(total)}; search to find others.` : "";
    fill(list, hint(entries.length ? counted : none), entries.length ? table("Texts", [["text", textOf], ["", buttons]], entries) : null);
  });
  const buttons = (each) => el("div", { class: "buttons" }, opener("Edit", nameOf(each), () => edit(each)),
    part.act("Remove", nameOf(each), [`/v1/answers/${encodeURIComponent(each.id)}`, "DELETE"], "Removed", `Remove ${nameOf(each)}? Its history is kept.`));
  const edit = ({ id = "", question, answer, products, product_type, source = "faq" }) => {
    const fields = {
      question: field("Question", { value: question, maxlength: 500, wide: true }),
      answer: field("Answer", { value: answer, area: true, rows: 4, maxlength: 4000, required: true, wide: true }),
      products: field("Product ids, separated by commas", { list: ",", value: products, placeholder: "none: the whole store", wide: true }),
      product_type: field("Type of product", { value: product_type }),
      source: field("Source", { value: source }),
    };
    const save = (entry) => call("/v1/answers", { method: "PUT", body: { documents: [{ source: "", ...entry, id }] } });
    part.edit(id ? `Text ${id}` : "New text", formOf(fields, Object.keys(fields).map((name) => [name])), save, "Saved");
  };
  return [...head("Answers", "Questions are answered with quotes of these texts and of product texts. A saved text is used at once."),
    el("div", { class: "buttons" }, button("New text", () => edit({}), "primary")), part.status, part.below, part.past, el("h2", { text: "Texts" }),
    lineForm(part.status, part.refresh, "Find", [words], { kind: "small", role: "search" }), part.list];
}

/** A new text for an unanswered question and its subject. */
function entryFor({ text, about }) {
  return { question: text, products: about.product_id ? [about.product_id] : [], product_type: about.product_id ? "" : about.product_type };
}

function textOf({ question, answer, products, product_type: type, source }) {
  return el("div", {}, question ? el("b", { text: question }) : null, el("p", { text: answer }), hint([...products, type, source].filter(Boolean).join(" · ")));
}

function hint(text) {
  return text ? el("p", { class: "hint", text }) : null;
}

function nameOf({ id, question }) {
  return question || id;
}
