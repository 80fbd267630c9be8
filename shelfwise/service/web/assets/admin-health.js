// Health of the service: state, gauges, notices and the most requested paths.

import { call } from "./api.js";
import { attempt, button, figures, head, number, place, table } from "./admin-ui.js";
import { el, fill } from "./dom.js";

const GAUGES = {
  shelfwise_requests_in_progress: "requests in progress",
  shelfwise_requests_refused: "requests refused (overload)",
  shelfwise_events_waiting: "events waiting",
  shelfwise_events_lost: "events lost",
};

export function healthPart() {
  const status = place();
  const content = place();
  const refresh = () => attempt(status, async () => {
    const [health, text] = await Promise.all([call("/health/ready"), call("/metrics")]);
    fill(content, shown(health, read(text)));
  });
  refresh();
  return [...head("Health"), el("div", { class: "buttons" }, button("Refresh", refresh)), status, content];
}

function shown(health, samples) {
  const value = (name) => samples.filter((each) => each.name === name).reduce((sum, each) => sum + each.value, 0);
  const routes = new Map();
  for (const { name, labels, value: count } of samples) {
    if (name !== "shelfwise_http_requests_total") continue;
    const row = routes.get(labels.route) || { route: labels.route, requests: 0, failed: 0 };
    row.requests += count;
    if (labels.status >= "500") row.failed += count;
    routes.set(labels.route, row);
  }
  for (const row of routes.values()) {
    const of = (end) => samples.find((each) => new RegExp(`^shelfwise_http_\\w*seconds_${end}$`).test(each.name) && each.labels.route === row.route)?.value;
    row.mean = of("count") ? (1000 * of("sum")) / of("count") : null;
  }
  const age = value("shelfwise_index_age_seconds") / 3600;
  return [
    figures([["state", health.status], ["version", health.version], ["products", number(health.products)], ["ranker", health.ranker || "none"],
      ["hours since the build", number(age, 1)], ...Object.entries(GAUGES).map(([name, status]) => [status, number(value(name))])]),
    health.notices.map((notice) => el("p", { class: "notice", text: notice })),
    el("section", {}, el("h2", { text: "Requests since the service started" }), table("Requests", [
      ["path", ({ route }) => route],
      ["requests", ({ requests }) => number(requests), true],
      ["failed", ({ failed }) => number(failed), true],
      ["mean, ms", ({ mean }) => number(mean, 1), true],
    ], [...routes.values()].sort((one, other) => other.requests - one.requests).slice(0, 30))),
  ];
}

/** Parses the samples of a Prometheus page. */
function read(text) {
  const made = [];
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:]\w*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries(Array.from((found[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g), ([, name, value]) => [name, value]));
    made.push({ name: found[1], labels, value: Number(found[3]) });
  }
  return made;
}
