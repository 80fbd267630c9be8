// The visitor's data in this browser, and events about the visitor for the server. Without consent, only the basket, the language and
// the decision itself are stored, and no events are sent.

import { BASE } from "./address.js";
import { call, timestamp } from "./api.js";

const SESSION_MS = 30 * 60 * 1000;
const ORIGIN_MS = 24 * 60 * 60 * 1000;
const MAX_ACTS = 50;
const MAX_SEEN = 12;
const MAX_RECENT = 6;
const MAX_LETTERS = 200;
const SOON_MS = 250;
const MAX_WAITING = 1000;
const MAX_TRIES = 5;
const MAX_QUERY = 1000;
/** The prefix of stored names includes the store, as there may be several. */
const PREFIX = `shelfwise${BASE}.`;

const values = new Map();
const instead = { getItem: (name) => values.get(name), setItem: (name, text) => values.set(name, text), removeItem: (name) => values.delete(name) };
let waiting = [];
let timer = 0;
let tries = 0;
/** Query ids of the answers that the server has recorded. */
export const recorded = new Set();

/** Applies `work` to the browser's storage; if that is not available, to values that last as long as the page. */
function attempt(work) {
  try {
    return work(localStorage);
  } catch {
    return work(instead);
  }
}

export const browser = {
  read(name, missing = null) {
    try {
      return JSON.parse(attempt((store) => store.getItem(PREFIX + name))) ?? missing;
    } catch {
      return missing;
    }
  },
  write: (name, value) => attempt((store) => store.setItem(PREFIX + name, JSON.stringify(value))),
  remove: (name) => attempt((store) => store.removeItem(PREFIX + name)),
};

/** Whether the browser requests privacy; consent then counts as declined. */
export function requestsPrivacy() {
  return navigator.globalPrivacyControl === true || navigator.doNotTrack === "1";
}

/** "yes", "no", or an empty text if not decided. */
export function choice() {
  return requestsPrivacy() ? "no" : browser.read("consent", "");
}

function mayRemember() {
  return choice() === "yes";
}

/** Stores the decision; "no" deletes all stored data. */
export function choose(agreed) {
  browser.write("consent", agreed ? "yes" : "no");
  if (!agreed) ["visitor", "session", "acts", "seen", "recent", "origins"].forEach(browser.remove);
}

function randomName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The random ids that events contain; empty without consent. */
export function names() {
  if (!mayRemember()) return { shopper: "", session: "" };
  const shopper = browser.read("visitor") ?? randomName();
  const last = browser.read("session");
  const session = last && Math.abs(Date.now() - last.seen) <= SESSION_MS ? last.id : randomName();
  browser.write("visitor", shopper);
  browser.write("session", { id: session, seen: Date.now() });
  return { shopper, session };
}

/** A stored list, newest first: of ids of viewed products ("seen") or of queries ("recent"); empty without consent. */
export function stored(name) {
  return mayRemember() ? browser.read(name, []) : [];
}

/** Puts an entry first in a stored list of at most `max` entries, instead of those that `isSame` finds. */
function store(name, entry, isSame, max) {
  if (mayRemember()) browser.write(name, [entry, ...stored(name).filter((each) => !isSame(each))].slice(0, max));
}

/** The visitor's acts for searches and recommendations, oldest first. Times in the future (the clock was ahead) are
 * set to now, as the server refuses them. */
export function history() {
  const latest = timestamp();
  return stored("acts").map((act) => (act.at > latest ? { ...act, at: latest } : act)).toReversed();
}

function remember(kind, productId) {
  store("acts", { product_id: productId, kind, at: timestamp() }, (act) => act.product_id === productId && act.kind === kind, MAX_ACTS);
}

export function rememberSeen(productId) {
  store("seen", productId, (id) => id === productId, MAX_SEEN);
}

/** Remembers a query in this browser only. */
export function rememberSearch(query) {
  const text = query.trim().slice(0, MAX_LETTERS);
  if (text) store("recent", text, (each) => each.toLowerCase() === text.toLowerCase(), MAX_RECENT);
}

/** Records an act on a product, with the answer by which the product was reached within the last day. */
export function note(kind, productId, { quantity } = {}) {
  if (kind !== "removal") remember(kind, productId);
  const origin = stored("origins").find(({ id, at }) => id === productId && Math.abs(Date.now() - at) < ORIGIN_MS);
  push({ kind, product_id: productId, quantity, ...origin?.answer, event_id: randomName() });
}

/** Records a click on a hit. */
export function noteClick(answer, hit, place) {
  noteReached(answer, hit, place);
  note("click", hit.product.id);
}

/** Records a click on a sponsored hit, which has its own query id: later acts belong to no answer. */
export function noteSponsored(hit) {
  remember("click", hit.product.id);
  push({ kind: "click", product_id: hit.product.id, query_id: hit.query_id, position: hit.place, event_id: randomName() });
}

/** Records the answer of a hit before an act on it, and remembers the answer for the product's later acts. */
export function noteReached(answer, hit, place) {
  noteShown(answer);
  const { id } = hit.product;
  const reached = { query_id: answer.query_id, query: answer.query.slice(0, MAX_QUERY), position: place };
  store("origins", { id, answer: reached, at: Date.now() }, (each) => each.id === id, MAX_ACTS);
}

/** Records an answer that the visitor has looked at, once; answers passed while typing are not recorded. */
export function noteShown(answer) {
  if (!mayRemember() || recorded.has(answer.query_id) || answer.query.length > MAX_QUERY) return;
  recorded.add(answer.query_id);
  const { query_id, query } = answer;
  const first = (answer.page - 1) * answer.size + 1;
  const shown = answer.hits.map((hit, index) => ({ kind: "impression", product_id: hit.product.id, query_id, position: first + index }));
  if (query.trim()) shown.unshift({ kind: "query", query_id, query, results: answer.total });
  push(...shown);
}

/** Adds events that are sent in one request: the server accepts only a whole answer. */
function push(...events) {
  if (!mayRemember()) return;
  waiting.push(events.map((event) => ({ ...event, ...names(), time: timestamp() })));
  waiting = waiting.slice(-MAX_WAITING);
  timer ||= setTimeout(send, SOON_MS);
}

async function send() {
  clearTimeout(timer);
  timer = 0;
  while (waiting.length) {
    const events = waiting.shift();
    try {
      if (mayRemember()) await call("/v1/events", { method: "POST", body: { events }, keepalive: true });
      tries = 0;
    } catch (error) {
      // Events sent again are counted once; events that the server rejects are dropped.
      if ((error.status >= 400 && error.status < 500 && error.status !== 429) || tries >= MAX_TRIES) continue;
      tries += 1;
      waiting.unshift(events);
      timer = setTimeout(send, 1000 * 2 ** tries);
      return;
    }
  }
}

addEventListener("pagehide", send);
document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && send());
