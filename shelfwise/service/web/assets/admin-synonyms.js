// Synonyms: the list, and a form to add one.

import { call } from "./api.js";
import { field, head, lineForm, listPart, table, tag } from "./admin-ui.js";
import { el, fill } from "./dom.js";

const KINDS = [["two-way", "match each other"], ["one-way", "also match"]];
const NONE = "There are no synonyms yet, except those of the version.";

export function synonymsPart() {
  const part = listPart(async ({ list }) => {
    const { documents } = await call("/v1/synonyms");
    fill(list, documents.length ? table("Synonyms", [["words", lineOf], ["", ({ enabled }) => (enabled ? "" : tag("off"))], ["", buttons]], documents) : el("p", { text: NONE }));
  });
  const put = (synonym) => ["/v1/synonyms", "PUT", { documents: [synonym] }];
  const buttons = (each) => el("div", { class: "buttons" },
    part.act(each.enabled ? "Switch off" : "Switch on", lineOf(each), put({ ...each, enabled: !each.enabled }), "Changed"),
    part.act("Remove", lineOf(each), [`/v1/synonyms/${encodeURIComponent(each.id)}`, "DELETE"], "Removed", `Remove ${lineOf(each)}?`));
  const words = field("Words, separated by commas", { list: ",", required: true, placeholder: "sofa, couch", wide: true });
  const kind = field("They", { value: "two-way" }, KINDS);
  const to = field("Target phrases", { list: ",", placeholder: "only for “also match”", wide: true });
  const save = () => {
    const [path, method, body] = put({ kind: kind.value(), phrases: words.value(), to: kind.value() === "one-way" ? to.value() : [] });
    return part.change(path, { method, body }, "Saved");
  };
  return [...head("Synonyms", "Synonyms apply as soon as they are saved, in addition to those of the version."),
    lineForm(part.status, save, "Save", [words, kind, to]), part.status, part.list];
}

function lineOf({ phrases, to }) {
  return to.length ? `${phrases.join(", ")} → ${to.join(", ")}` : phrases.join(", ");
}
