// Models of the store: rankers, user towers and encoders, and their evaluation.

import { call } from "./api.js";
import { head, listPart, moment, notice, number, table } from "./admin-ui.js";
import { stateOf } from "./admin-service.js";
import { el, fill } from "./dom.js";

export function modelsPart() {
  const part = listPart(async ({ list }) => {
    const [{ user_towers: towers, ...rankers }, versions] = await Promise.all([call("/v1/models"), call("/v1/versions")]);
    const without = rankers.serving ? `${rankers.serving} serves.` : "No ranker of this store serves: results are ordered by the shipped ranker, or by words and vectors.";
    fill(list, sectionOf("Rankers: the order of search results", "ranker", rankers.rankers, rankers.notices, rankers.is_off ? "Rankers are switched off." : without),
      rankers.rankers.length ? null : el("p", { class: "hint", text: "No ranker was trained for this store yet: use “Learn from events” under Tasks." }),
      sectionOf("User towers: recommendations", "tower", towers.towers, towers.notices, towers.serving ? `${towers.serving} serves.` : "No user tower serves: recommendations are similar and popular products."),
      encodersOf(versions));
  });
  const serve = ({ name, serves, problem, misfit }) => (serves || problem || misfit ? ""
    : part.act("Serve", name, ["/v1/models/rollback", "POST", { name }], `${name} serves`, `Serve ${name}? It takes effect for shoppers within a second.`));
  const sectionOf = (title, kind, models, notices, text) => el("section", {}, el("h2", { text: title }), el("p", { text }), notices.map(notice),
    models.length ? table(`${kind[0].toUpperCase()}${kind.slice(1)}s`, [
      [kind, ({ name }) => el("b", { text: name })],
      ["state", (each) => stateOf(each, "does not serve")],
      ["trained", ({ report }) => moment(report?.created)],
      ["evaluation", judgedOf],
      ["", ({ name, problem }) => (problem ? "" : cardOf(name))],
      ["", serve],
    ], [...models].reverse()) : null);
  return [...head("Models", "Models trained on shoppers' events, their evaluation on held-out searches, and which of them serve."), part.status, part.list];
}

function encodersOf(versions) {
  return el("section", {}, el("h2", { text: "Encoders: the meaning of texts" }),
    el("p", { class: "hint", text: "An encoder belongs to a version of the index: to go back to an earlier one, serve its version." }),
    table("Encoders", [
      ["encoder", ({ encoder_name: name }) => name],
      ["version", ({ version }) => el("a", { href: "#versions", text: version })],
      ["state", (each) => stateOf(each, "does not serve")],
    ], [...versions].reverse()));
}

/** The figures of the gate: each measure of the new and the serving model, and the difference with its interval. */
function judgedOf({ report }) {
  if (!report) return "";
  const { decision, measures = {}, methods = [], difference, against } = report;
  const reasons = decision?.reasons || report.rejection_reasons;
  const rows = (decision?.comparisons || []).map((each) => [each.slice === "all queries" ? each.measure : `${each.measure}, ${each.slice}`, each.challenger, each.served, each.difference, each.queries]);
  const given = rows.length ? [] : [...Object.entries(measures).map(([name, value]) => [name, value]), ...methods.map(({ name, ndcg }) => [`nDCG@10, ${name}`, ndcg])];
  if (difference && !rows.length) given.push([`nDCG@10 minus that of ${against || "the serving model"}`, difference.mean]);
  return [
    el("p", { text: `${(decision ? !decision.publish : reasons.length) ? "Rejected" : "Passed"}${against ? `, compared with ${against}` : ""}${reasons.length ? `: ${reasons.join("; ")}` : ""}` }),
    rows.length ? el("details", {}, el("summary", { text: "All figures" }), el("ul", {}, rows.map(([name, own, served, found, queries]) =>
      el("li", { text: `${name}: ${number(own, 4)}, before ${number(served, 4)}${found ? `, difference ${signed(found.mean)} (${signed(found.low)} to ${signed(found.high)})` : ""}, ${number(queries)} queries` })))) : null,
    given.length ? el("p", { class: "hint", text: given.map(([name, value]) => `${name} ${number(value, 4)}`).join(", ") }) : null,
  ].filter(Boolean);
}

/** The model card, loaded when it is opened. */
function cardOf(name) {
  const text = el("pre", { class: "model-card" });
  const details = el("details", {}, el("summary", { text: "Card", "aria-label": `Card of ${name}` }), text);
  details.addEventListener("toggle", async () => {
    if (details.open && !text.textContent) text.textContent = (await call(`/v1/models/${encodeURIComponent(name)}/card`)).card;
  });
  return details;
}

function signed(value) {
  return `${value < 0 ? "−" : "+"}${number(Math.abs(value), 4)}`;
}
