// Models of the store: rankers, user towers and encoders, their evaluation, and a comparison of rankers.

import { call } from "./api.js";
import { field, head, lineForm, listPart, moment, notice, number, place, table } from "./admin-ui.js";
import { stateOf } from "./admin-service.js";
import { el, fill } from "./dom.js";

const BUILT_IN = [["off", "no ranker: the order of words and vectors"], ["default", "the shipped ranker"]];

export function modelsPart() {
  const compared = place();
  const part = listPart(async ({ list }) => {
    const [{ user_towers: towers, ...rankers }, versions] = await Promise.all([call("/v1/models"), call("/v1/versions")]);
    const without = rankers.serving ? `${rankers.serving} serves.` : "No ranker of this store serves: results are ordered by the shipped ranker, or by words and vectors.";
    fill(compared);
    fill(list, sectionOf("Rankers: the order of search results", "ranker", rankers.rankers, rankers.notices, rankers.is_off ? "Rankers are switched off." : without),
      rankers.rankers.length ? null : el("p", { class: "hint", text: "No ranker was trained for this store yet: use “Learn from events” under Tasks." }),
      comparisonOf(rankers, compared), compared,
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

function comparisonOf({ serving, rankers }, compared) {
  const status = place();
  const usable = rankers.filter(({ name, problem, misfit }) => name !== serving && !problem && !misfit).map(({ name }) => [name, name]);
  const ranker = field("Other ranker", {}, [...usable.reverse(), ...BUILT_IN]);
  const query = field("Only this query", { placeholder: "the ten most frequent queries" });
  const compare = async () => {
    const text = query.value();
    const found = await call("/v1/models/compare", { method: "POST", body: { ranker: ranker.value(), queries: text ? [text] : [] } });
    fill(compared, found.queries.length ? shownOf(found) : notice("There are no frequent queries yet: enter one, or count new events under Tasks."));
  };
  return el("section", { "aria-label": "Before and after" }, el("h2", { text: "Comparison with another ranker" }),
    lineForm(status, compare, "Compare", [ranker, query]), status);
}

function shownOf({ serving, ranker, queries }) {
  const changed = queries.filter(({ before, after }) => before.some((hit, at) => hit.product_id !== after[at]?.product_id));
  const orderOf = (title, hits, isAfter) => el("div", {}, el("h4", { text: title }), el("ol", {}, hits.map((hit, at) => el("li", {}, hit.title, markOf(hit.other_place, at + 1, isAfter)))));
  return [el("p", { role: "status", text: `${number(changed.length)} of ${number(queries.length)} queries have different first five hits.` }),
    queries.map(({ query, before, after }) => el("section", { class: "compared" }, el("h3", { text: query }), el("div", { class: "halves" },
      orderOf(`Current: ${serving || "the serving order"}`, before, false), orderOf(`New: ${ranker}`, after, true))))];
}

/** The place of a hit in the other order; null if it is the same. */
function markOf(other, at, isAfter) {
  if (other === at) return null;
  if (other === null) return el("span", { class: isAfter ? "tag in_stock" : "tag out_of_stock", text: isAfter ? "new" : "gone" });
  const isUp = isAfter ? other > at : other < at;
  return el("span", { class: isUp ? "tag in_stock" : "tag preorder", text: `${isUp ? "▲" : "▼"} ${isAfter ? "from" : "to"} ${other}` });
}
