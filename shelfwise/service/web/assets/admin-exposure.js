// Exposure of groups of products, and the state of the exposure goals of rules.

import { call } from "./api.js";
import { attempt, button, number, percent, place, table } from "./admin-ui.js";
import { el, fill } from "./dom.js";

const NAMES = { brand: "Brands", price: "Prices", age: "New products" };
const FEW = 8;

/** Today's share of attention for each exposure goal; null if there are none. */
export function goalsOf(goals) {
  if (!goals.length) return null;
  return el("section", {}, el("h2", { text: "Exposure goals of rules today" }),
    el("p", { class: "hint", text: "The share of attention in the recorded searches of today (UTC) to which a rule applied. The strength is in standard deviations of the scores of the best hits." }),
    table("Exposure goals", [
      ["rule", ({ rule }) => rule],
      ["products", ({ filters }) => filters],
      ["searches", ({ searches }) => number(searches), true],
      ["share", ({ share, searches }) => (searches ? percent(share) : "–"), true],
      ["goal", ({ at_least: least, at_most: most }) => (least === null ? `at most ${percent(most)}` : `at least ${percent(least)}`), true],
      ["strength", ({ strength }) => `${strength > 0 ? "+" : ""}${number(strength, 2)}`, true],
    ], goals));
}

/** A section that loads the exposure of groups on request. */
export function exposurePart() {
  const status = place();
  const content = place();
  const show = () => attempt(status, async () => {
    const [{ exposure_goals: goals }, { exposure }] = await Promise.all([call("/v1/rules"), call("/v1/reports/events")]);
    fill(content, goalsOf(goals), exposure.length ? exposure.map(groupsOf) : el("p", { text: "The derived tables contain no product of the catalog." }));
  });
  return el("section", {}, el("h2", { text: "Exposure" }),
    el("p", { class: "hint", text: "The share of examinations that each group got, compared with the share that it merits by its clicks. The ratio is 1 if both are equal; it is shown with its 95% interval." }),
    el("div", { class: "buttons" }, button("Show exposure", show)), status, content);
}

function groupsOf({ by, groups, distance }) {
  const name = NAMES[by] || by;
  const columns = [
    [by, ({ group }) => group],
    ["impressions", ({ impressions }) => number(impressions), true],
    ["clicks", ({ clicks }) => number(clicks), true],
    ["exposure", ({ exposure }) => percent(exposure), true],
    ["by merit", ({ target }) => percent(target), true],
    ["ratio", ({ ratio }) => ratio.value.toFixed(2) + (ratio.lower === null ? "" : ` (${ratio.lower.toFixed(2)} to ${ratio.upper.toFixed(2)})`), true],
  ];
  const shown = el("div", {}, table(name, columns, groups.slice(0, FEW)));
  if (groups.length > FEW) shown.append(button(`Show all ${groups.length}`, () => fill(shown, table(name, columns, groups)), "quiet", { "aria-label": `Show all ${groups.length} of ${name}` }));
  return el("section", {}, el("h3", { text: name }), el("p", { class: "hint", text: `Distance of the shares from those by merit: ${percent(distance)}.` }), shown);
}
