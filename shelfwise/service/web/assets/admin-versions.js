// Versions of the index: the list, the serving one, and rollback.

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
      ["", ({ version, serves, problem }) => (serves || problem ? "" : button("Serve", () => back(version)))],
    ], versions));
  });
  const back = (version) => sure(`Serve ${version}?`) && attempt(status, async () => {
    await call("/v1/versions/rollback", { method: "POST", body: { name: version } });
    announce(`${version} serves`);
    await refresh();
  });
  refresh();
  return [...head("Versions", "Each rebuild creates a version. Live changes are kept whichever version serves."), status, list];
}

/** A tag for the serving version or model, or the reason why one cannot serve; else an empty text. */
export function state({ serves, problem, misfit }) {
  if (serves) return el("span", { class: "tag in_stock", text: "serves" });
  if (problem || misfit) return el("span", { class: "tag out_of_stock", text: problem || misfit });
  return "";
}

function changesOf(changes) {
  if (!changes) return "";
  return Object.entries(changes).filter(([, count]) => typeof count === "number" && count).map(([name, count]) => `${number(count)} ${name}`).join(", ");
}
