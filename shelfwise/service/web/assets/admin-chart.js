// Line charts over days: labelled axes, the values of the day under the pointer, and a table of all values.

import { table } from "./admin-ui.js";
import { el, fill } from "./dom.js";

const HEIGHT = 230;
const LEFT = 64;
const RIGHT = 14;
const TOP = 26;
const BOTTOM = 46;
const TICKS = 4;
const DAY_PX = 84;

/** A chart of `series` ([name, of(row)]) over `rows` with their `day`; `write(value)` formats a value. */
export function chart(title, unit, rows, series, write) {
  const readout = el("p", { class: "readout", "aria-hidden": "true" });
  const place = el("div", { class: "plot" });
  const tell = (row) => fill(readout, el("b", { text: row ? dayOf(row) : "" }), series.map(([name, of], at) =>
    el("span", { class: `key line-${at}` }, `${name}${row ? ` ${write(of(row))}` : ""}`)));
  const draw = () => place.clientWidth && fill(place, plot({ title, unit, rows, series, write }, place.clientWidth, tell));
  new ResizeObserver(draw).observe(place);
  tell(null);
  return el("section", { class: "chart" }, el("h2", { text: title }), readout, place,
    el("details", {}, el("summary", { text: "As a table" }), table(title, [
      ["day", dayOf], ...series.map(([name, of]) => [name, (row) => write(of(row)), true]),
    ], rows)));
}

function plot({ title, unit, rows, series, write }, width, tell) {
  const most = ceiling(Math.max(...rows.flatMap((row) => series.map(([, of]) => of(row) ?? 0))));
  const x = (at) => LEFT + ((width - LEFT - RIGHT) * at) / Math.max(rows.length - 1, 1);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
  const every = Math.max(1, Math.ceil((rows.length * DAY_PX) / (width - LEFT - RIGHT)));
  const mark = el("line", { class: "mark-line", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  const point = ({ offsetX }) => {
    const at = Math.min(rows.length - 1, Math.max(0, Math.round(((offsetX - LEFT) / (width - LEFT - RIGHT)) * (rows.length - 1))));
    for (const name of ["x1", "x2"]) mark.setAttribute(name, x(at));
    mark.setAttribute("visibility", "visible");
    tell(rows[at]);
  };
  const leave = () => {
    mark.setAttribute("visibility", "hidden");
    tell(null);
  };
  return el("svg", { width, height: HEIGHT, role: "img", "aria-label": `${title}, ${dayOf(rows[0])} to ${dayOf(rows.at(-1))}; the table below has the values`, onpointermove: point, onpointerleave: leave },
    Array.from({ length: TICKS + 1 }, (_, at) => (most * at) / TICKS).map((value) => [
      el("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      el("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end", text: write(value) })]).flat(),
    rows.map((row, at) => (at % every ? null : el("text", { x: x(at), y: HEIGHT - BOTTOM + 18, "text-anchor": at ? "middle" : "start", text: dayOf(row) }))),
    el("text", { x: 0, y: 12, text: unit }), el("text", { x: width - RIGHT, y: HEIGHT - 6, "text-anchor": "end", text: "day (UTC)" }),
    series.map(([, of], line) => el("path", { class: `line line-${line}`, d: pathOf(rows.map((row, at) => (of(row) === null ? null : [x(at), y(of(row))]))) })), mark);
}

/** The path through points, interrupted at null. */
function pathOf(points) {
  return points.map((point, at) => (point ? `${at && points[at - 1] ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}` : "")).join("");
}

/** The smallest number of the form 1, 2, 4 or 8 times a power of ten that is at least `value`: its quarters are short. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 4, 8, 10].find((factor) => factor * power >= value);
}

function dayOf({ day }) {
  return new Date(`${day}T00:00:00Z`).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
}
