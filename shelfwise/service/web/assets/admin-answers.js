// Answers: shoppers' questions without an answer, and the texts used to answer questions.

import { call } from "./api.js";
import { attempt, button, field, head, listPart, number, place, showFault, sure, table } from "./admin-ui.js";
import { el, fill } from "./dom.js";

const MOST_SHOWN = 100;

export function answersPart() {
  const { status, list, below, show, close, done } = listPart(() => refresh());
  const open = place();
  const words = field("Find a text", { type: "search", placeholder: "words in the text", wide: true });
  const refresh = () => attempt(status, async () => {
    const { questions } = await call("/v1/answers/unanswered");
    fill(open, el("section", {}, el("h2", { text: "Questions without an answer" }),
      questions.length ? asked(questions) : el("p", { text: "Every question of enough shoppers has an answer. A refresh of the derived tables counts them." })));
    const { total, entries } = await call(`/v1/answers?limit=${MOST_SHOWN}&q=${encodeURIComponent(words.input.value)}`);
    const counted = total > entries.length ? `The first ${number(entries.length)} of ${number(total)}; search to find others.` : "";
    const none = words.input.value.trim() ? "No text has these words." : "There are no answer texts yet. Questions are answered from product texts.";
    fill(list, el("p", { class: "hint", text: entries.length ? counted : none }), entries.length ? tableOf(entries) : null);
  });
  const asked = (questions) => table("Questions without an answer", [
    ["question", ({ text, about }) => el("div", {}, text, hint(about.title || about.product_type))],
    ["times", ({ times }) => number(times), true],
    ["", (each) => button("Answer", () => edit(entryFor(each)), "small", { "aria-label": `Answer ${each.text}` })],
  ], questions);
  const tableOf = (entries) => table("Texts", [
    ["text", (each) => el("div", {}, each.question ? el("b", { text: each.question }) : null, el("p", { text: each.answer }),
      hint([...each.products, each.product_type, each.source].filter(Boolean).join(" · ")))],
    ["", (each) => el("div", { class: "buttons" },
      button("Edit", () => edit(each), "small", { "aria-label": `Edit ${nameOf(each)}` }),
      button("Remove", () => sure(`Remove ${nameOf(each)}? Its history is kept.`) && attempt(status, async () => {
        await call(`/v1/answers/${encodeURIComponent(each.id)}`, { method: "DELETE" });
        await done("Removed");
      }), "small", { "aria-label": `Remove ${nameOf(each)}` }))],
  ], entries);
  const edit = (entry) => show(editorOf(entry, async () => {
    close();
    await done("Saved");
  }, close));
  const find = (event) => {
    event.preventDefault();
    refresh();
  };
  refresh();
  return [...head("Answers", "Questions are answered with quotes of these texts and of product texts. A saved text is used at once."),
    el("div", { class: "buttons" }, button("New text", () => edit({}), "primary")), status, below, open, el("h2", { text: "Texts" }),
    el("form", { class: "line", role: "search", onsubmit: find }, words.element, el("button", { class: "small", text: "Find" })), list];
}

/** A new text for an unanswered question and its subject. */
function entryFor({ text, about }) {
  return { question: text, products: about.product_id ? [about.product_id] : [], product_type: about.product_id ? "" : about.product_type };
}

function hint(text) {
  return text ? el("p", { class: "hint", text }) : null;
}

function nameOf({ id, question }) {
  return question || id;
}

function editorOf(entry, saved, close) {
  const status = place();
  const fields = {
    question: field("Question", { value: entry.question || "", maxlength: 500, wide: true }),
    answer: field("Answer", { value: entry.answer || "", area: true, maxlength: 4000, required: true, wide: true }),
    products: field("Product ids, separated by commas", { value: (entry.products || []).join(", "), placeholder: "none: the whole store", wide: true }),
    product_type: field("Type of product", { value: entry.product_type || "" }),
    source: field("Source", { value: entry.source ?? "faq" }),
  };
  const save = (event) => {
    event.preventDefault();
    Object.values(fields).forEach((each) => showFault(each, ""));
    attempt(status, async () => {
      const texts = Object.fromEntries(Object.entries(fields).map(([name, { input }]) => [name, input.value]));
      const products = texts.products.split(/[,，]/).map((each) => each.trim()).filter(Boolean);
      try {
        await call("/v1/answers", { method: "PUT", body: { entries: [{ ...texts, id: entry.id || "", products }] } });
      } catch (error) {
        const wrong = fields[error.field?.split(".").at(-1)];
        if (!wrong) throw error;
        showFault(wrong, error.message);
        return wrong.input.focus();
      }
      return saved();
    });
  };
  return el("section", { "aria-label": "Editor" }, el("h2", { tabindex: "-1", text: entry.id ? `Text ${entry.id}` : "New text" }),
    el("form", { class: "rule prose", onsubmit: save }, Object.values(fields).map(({ element }) => element), status,
      el("div", { class: "buttons" }, el("button", { class: "primary", text: "Save" }), button("Close", close, "primary plain"))));
}
