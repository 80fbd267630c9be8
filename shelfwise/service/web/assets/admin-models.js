// Models of the store: rankers and user towers, and their evaluation.

import { call } from "./api.js";
import { head, listPart, moment, notice, table } from "./admin-ui.js";
import { stateOf } from "./admin-service.js";
import { el, fill } from "./dom.js";

export function modelsPart() {
  const part = listPart(async ({ list }) => {
    const { user_towers: towers, ...rankers } = await call("/v1/models");
    const without = rankers.serving ? `${rankers.serving} serves.` : "No ranker of this store serves: results are ordered by the shipped ranker, or by words and vectors.";
    fill(list, sectionOf("Rankers: the order of search results", "ranker", rankers.rankers, rankers.notices, rankers.is_off ? "Rankers are switched off." : without),
      rankers.rankers.length ? null : el("p", { class: "hint", text: "No ranker was trained for this store yet: use “Learn from events” under Tasks." }),
      sectionOf("User towers: recommendations", "tower", towers.towers, towers.notices, towers.serving ? `${towers.serving} serves.` : "No user tower serves: recommendations are similar and popular products."));
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

/** The decision of the gate, and its reasons; the card has the figures. */
function judgedOf({ report }) {
  if (!report) return "";
  const { decision, against } = report;
  const reasons = decision?.reasons || report.rejection_reasons;
  return `${(decision ? !decision.publish : reasons.length) ? "Rejected" : "Passed"}${against ? `, compared with ${against}` : ""}${reasons.length ? `: ${reasons.join("; ")}` : ""}`;
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
