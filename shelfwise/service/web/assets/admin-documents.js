// The panel of a kind of documents: a table, an editor with a preview, and the history, from a declaration.

import { withParameters } from "./address.js";
import { call } from "./api.js";
import { formOrJson } from "./admin-form.js";
import { attempt, button, counts, editor, field, head, lineForm, listPart, moment, number, opener, place, table, tag } from "./admin-ui.js";
import { el, fill } from "./dom.js";

const MAX_LISTED = 200;

/**
 * A panel by its declaration:
 * - `kind`, the name in paths; `one`, the name of one document; `title` and `hint`;
 * - `lines` of its form (admin-form.js), or a function that returns a promise of them; `start`, the first values of a new document;
 * - `nameOf(document)`; `columns`, or a function of a response that returns them;
 * - `above` and `below`, functions of a response and the panel that return elements around the table;
 * - `find`, the label of a field that searches the documents; `tries`, whether the kind has a preview;
 * - `actions(document, panel)`, more buttons of a row;
 * - `isSingle`, whether there is only one document;
 * - `buttons(document, panel, response)`, instead of the usual ones.
 */
export function documentsPart(declaration) {
  const { kind, one, title, hint, start, columns, find, isSingle, nameOf = ({ id }) => id, above, below } = declaration;
  const words = find && field(find, { type: "search", wide: true });
  const cellOf = (document, fault) => el("div", {}, el("b", { text: nameOf(document) }), document.name ? ` ${document.name} ` : " ",
    document.enabled === false && tag("off"), fault && el("p", { class: "faults", text: fault }));
  const usual = (document, part) => {
    const name = nameOf(document);
    const path = `/v1/${kind}/${encodeURIComponent(document.id)}`;
    const isOff = document.enabled === false;
    return [opener("Edit", name, () => part.edit(document)), declaration.actions?.(document, part),
      declaration.lines.flat().some(([field]) => field === "enabled") && part.act(isOff ? "Switch on" : "Switch off", name, [path, "PATCH", { enabled: isOff }], `${name} is ${isOff ? "on" : "off"}`),
      part.act("Remove", name, [path, "DELETE"], `${name} is removed`, `Remove ${name}? Its history is kept.`)];
  };
  const tableOf = ({ documents, total, ...found }, part) => [
    total > documents.length && el("p", { class: "hint", text: `The first ${number(documents.length)} of ${number(total)}.` }), table(title, [
      [one, (document) => cellOf(document, found.faults[document.id])], ...(typeof columns === "function" ? columns(found) : columns),
      ["", (document) => el("div", { class: "buttons" }, (declaration.buttons || usual)(document, part, found))],
    ], documents, words?.value() ? `No ${one} has these words.` : `There are no ${title.toLowerCase()} yet.`)];
  const editorOf = async (document, part) => {
    const form = formOrJson(typeof declaration.lines === "function" ? await declaration.lines() : declaration.lines, document, `The ${one} as JSON`);
    const send = async (value) => {
      await call(`/v1/${kind}`, { method: "PUT", body: { documents: [value] } });
      await part.done(`The ${one} is saved`);
    };
    const name = isSingle ? title : document.id ? `${one[0].toUpperCase()}${one.slice(1)} ${nameOf(document)}` : `New ${one}`;
    return editor({ title: name, form, send, close: isSingle ? undefined : part.close, others: declaration.tries ? tryForm(kind, () => form.value()) : [] });
  };
  const pastOf = (changes, part) => el("section", {}, el("h2", { text: "History" }), table("History", [
    ["revision", ({ revision }) => number(revision), true], ["when", ({ time }) => moment(time)], ["by", ({ who }) => who],
    [one, ({ before, after }) => nameOf(after || before)], ["change", changeOf],
    ["", ({ revision }) => part.act("Restore", `revision ${revision}`, [`/v1/${kind}/restore`, "POST", { revision }],
      `Revision ${revision} is restored`, `Restore all ${title.toLowerCase()} of revision ${revision}?`)],
  ], changes));
  return listPart({
    title,
    hint,
    above: (part) => [!isSingle && el("div", { class: "buttons" }, button(`New ${one}`, () => part.edit(start), "primary")),
      words && lineForm(part.status, part.refresh, "Find", [words], { kind: "small", role: "search" })],
    async load(part) {
      part.edit = (document) => attempt(part.status, async () => part.show(await editorOf(document, part)));
      const found = await call(withParameters(`/v1/${kind}`, { limit: MAX_LISTED, q: words?.value() }));
      const { changes } = await call(`/v1/${kind}/history?limit=20`);
      fill(part.past, changes.length && pastOf(changes, part));
      return [await above?.(found, part), isSingle ? await editorOf(found.documents[0], part) : tableOf(found, part), below?.(found, part)];
    },
  });
}

/** A change in the history of documents: the names of the changed fields. */
function changeOf({ before, after }) {
  if (!before || !after) return before ? "removed" : "added";
  const names = Object.keys({ ...before, ...after }).filter((name) => JSON.stringify(after[name]) !== JSON.stringify(before[name]));
  return `changed: ${names.join(", ")}`;
}

/** The effect of a change on a result page. */
function previewOf(found) {
  const rows = [...found.gained, ...found.moved, ...found.lost];
  const text = `${number(found.total_before)} products before, ${number(found.total_after)} after.`;
  if (!rows.length) return el("p", { role: "status", text: `The first 20 hits do not change. ${text}` });
  return [el("p", { role: "status", text }), table("What would change", [
    ["product", ({ title, product }) => title || product],
    ["type", ({ product_type: type }) => type],
    ...counts(["place before", "before"], ["place after", "after"]),
    ["by rule", ({ rule }) => rule],
  ], rows)];
}

/** A form that tries `changed()`, a changed document, on a query. */
function tryForm(kind, changed) {
  const [status, preview] = [place(), place()];
  const query = field("Try it on", { value: changed().when?.query, placeholder: "a query", wide: true });
  const work = async () => {
    const document = changed();
    query.input.value ||= document.when?.query || "";
    fill(preview, previewOf(await call(`/v1/${kind}/preview`, { method: "POST", body: { q: query.input.value, put: [document], size: 20 } })));
  };
  return [status, lineForm(status, work, "What would this change?", [query], { kind: "small" }), preview];
}
