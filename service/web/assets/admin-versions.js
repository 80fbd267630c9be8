// Versions of the index and rankers: what there is, which serves, and going back.

import { call } from "./api.js";
import { attempt, button, head, moment, number, place, sure, table } from "./admin-ui.js";
import { announce } from "./announce.js";
import { el, fill } from "./dom.js";

export function versionsPart() {
  const status = place();
  const list = place();
  const refresh = () => attempt(status, async () => {
    const versions = (await call("/v1/versions")).reverse();
    fill(list, table("Versions", [
      ["version", ({ version }) => version],
      ["", (each) => state(each)],
      ["built", ({ created }) => moment(created)],
      ["products", ({ products }) => number(products), true],
      ["changed", ({ changes }) => changesOf(changes)],
      ["encoder", ({ encoder_name: name }) => name],
      ["size", ({ bytes }) => `${number(bytes / 1e6, 1)} MB`, true],
      ["", ({ version, serves, problem }) => (serves || problem ? "" : button("Let it serve", () => back(version)))],
    ], versions));
  });
  const back = (version) => sure(`Let ${version} serve?`) && attempt(status, async () => {
    await call("/v1/versions/rollback", { method: "POST", body: { name: version } });
    announce(`${version} serves`);
    await refresh();
  });
  refresh();
  return [...head("Versions", "Each rebuild makes one. Live changes stand whichever serves."), status, list];
}

export function modelsPart() {
  const status = place();
  const list = place();
  const refresh = () => attempt(status, async () => {
    const found = await call("/v1/models");
    const serving = found.is_off ? "Rankers are switched off." : found.serving ? `${found.serving} serves.` : "The order is that of words and vectors, or of the ranker that comes with the program.";
    fill(list, el("p", { text: serving }), found.notices.map((notice) => el("p", { class: "notice", text: notice })),
      found.rankers.length ? table("Rankers", [
        ["ranker", ({ name }) => name],
        ["", (each) => state(each)],
        ["size", ({ bytes }) => `${number(bytes / 1e6, 1)} MB`, true],
        ["judged", ({ report }) => summaryOf(report)],
        ["", ({ name, serves, problem, misfit }) => (serves || problem || misfit ? "" : button("Let it serve", () => back(name)))],
      ], [...found.rankers].reverse()) : el("p", { class: "hint", text: "None was trained for this store: shelfwise learn makes one." }));
  });
  const back = (name) => sure(`Let ${name} serve?`) && attempt(status, async () => {
    await call("/v1/models/rollback", { method: "POST", body: { name } });
    announce(`${name} serves`);
    await refresh();
  });
  refresh();
  return [...head("Models", "The rankers that learned from what shoppers did, and how each was judged."), status, list];
}

function state({ serves, problem, misfit }) {
  if (serves) return el("span", { class: "tag in_stock", text: "serves" });
  if (problem || misfit) return el("span", { class: "tag out_of_stock", text: problem || misfit });
  return "";
}

function changesOf(changes) {
  if (!changes) return "";
  return Object.entries(changes).filter(([, count]) => typeof count === "number" && count).map(([name, count]) => `${number(count)} ${name}`).join(", ");
}

function summaryOf(report) {
  if (!report) return "";
  const label = report.rejected ? `rejected: ${report.rejected}` : "";
  return el("details", {}, el("summary", { text: label || "its report" }), el("pre", { text: JSON.stringify(report, null, 2) }));
}
