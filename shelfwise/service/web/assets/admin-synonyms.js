// Synonyms: the list, a form to add one, and proposals from shoppers' queries.

import { call } from "./api.js";
import { attempt, button, field, head, number, percent, place, sure, table } from "./admin-ui.js";
import { announce } from "./announce.js";
import { el, fill } from "./dom.js";

const KINDS = [["two-way", "match each other"], ["one-way", "also match"]];

export function synonymsPart(paths) {
  const status = place();
  const list = place();
  const proposed = place();
  const done = async (text) => {
    announce(text);
    await refresh();
  };
  const refresh = () => attempt(status, async () => {
    const { synonyms } = await call("/v1/synonyms");
    fill(list, synonyms.length ? tableOf(synonyms) : el("p", { text: "There are no synonyms yet, except those of the version." }));
    if ("/v1/synonyms/proposals" in paths) await lookAtProposals();
  });
  const put = (synonym, text) => attempt(status, async () => {
    await call("/v1/synonyms", { method: "PUT", body: { synonyms: [synonym] } });
    await done(text);
  });
  const tableOf = (synonyms) => table("Synonyms", [
    ["words", (each) => lineOf(each)],
    ["", ({ enabled }) => (enabled ? "" : el("span", { class: "tag", text: "off" }))],
    ["", (each) => el("div", { class: "buttons" },
      button(each.enabled ? "Switch off" : "Switch on", () => put({ ...each, enabled: !each.enabled }, "Changed"), "small", { "aria-label": `Switch ${each.enabled ? "off" : "on"} ${lineOf(each)}` }),
      button("Remove", () => sure(`Remove ${lineOf(each)}?`) && attempt(status, async () => {
        await call(`/v1/synonyms/${encodeURIComponent(each.id)}`, { method: "DELETE" });
        await done("Removed");
      }), "small", { "aria-label": `Remove ${lineOf(each)}` }))],
  ], synonyms);
  const lookAtProposals = async () => {
    const { total, proposals } = await call("/v1/synonyms/proposals?limit=50");
    if (!total) return fill(proposed);
    const decide = (each, verb, text) => attempt(status, async () => {
      await call(`/v1/synonyms/proposals/${encodeURIComponent(each.id)}/${verb}`, { method: "POST" });
      await done(text);
    });
    return fill(proposed, el("section", {}, el("h2", { text: `Proposed from shoppers' queries (${number(total)})` }), table("Proposals", [
      ["words", (each) => lineOf(each)],
      ["shoppers", ({ shoppers }) => number(shoppers), true],
      ["share", ({ share }) => percent(share), true],
      ["similarity", ({ alike }) => number(alike, 2), true],
      ["", (each) => el("div", { class: "buttons" },
        button("Accept", () => decide(each, "accept", "The proposal is now a synonym"), "small", { "aria-label": `Accept ${lineOf(each)}` }),
        button("Decline", () => decide(each, "decline", "The proposal is declined permanently"), "small", { "aria-label": `Decline ${lineOf(each)}` }))],
    ], proposals)));
  };
  refresh();
  return [...head("Synonyms", "Synonyms apply as soon as they are saved, in addition to those of the version."), formOf(put), status, list, proposed];
}

function formOf(put) {
  const words = field("Words, separated by commas", { required: true, placeholder: "sofa, couch", wide: true });
  const kind = field("They", { value: "two-way" }, KINDS);
  const to = field("Target phrases", { placeholder: "only for “also match”", wide: true });
  const save = async (event) => {
    event.preventDefault();
    await put({ kind: kind.input.value, phrases: listed(words.input.value), to: kind.input.value === "one-way" ? listed(to.input.value) : [] }, "Saved");
  };
  return el("form", { class: "line", onsubmit: save }, words.element, kind.element, to.element, el("button", { class: "primary", text: "Save" }));
}

function listed(text) {
  return text.split(/[,，]/).map((each) => each.trim()).filter(Boolean);
}

function lineOf({ phrases, to }) {
  return to.length ? `${phrases.join(", ")} → ${to.join(", ")}` : phrases.join(", ");
}
