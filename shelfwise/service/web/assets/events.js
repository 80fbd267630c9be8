// The visitor's events, sent to the server in small batches, only with consent.

import { call, timestamp } from "./api.js";
import { randomName } from "./storage.js";
import { mayRemember, names, origin, remember, rememberOrigin } from "./visitor.js";

const SOON_MS = 250;
const MAX_WAITING = 1000;
const MAX_TRIES = 5;
const MAX_QUERY = 1000;
const HISTORY = new Set(["click", "consultation", "cart", "purchase"]);

let waiting = [];
let timer = 0;
let tries = 0;
const recorded = new Set();

/** Records an act on a product, with the search by which the product was reached. */
export function note(kind, productId, { quantity } = {}) {
  if (!mayRemember()) return;
  if (HISTORY.has(kind)) remember(kind, productId);
  push({ kind, product_id: productId, quantity, ...origin(productId), event_id: randomName() });
}

/** Records a click on a hit. */
export function noteClick(answer, hit, place) {
  noteReached(answer, hit, place);
  note("click", hit.product.id);
}

/** Records a click on a sponsored hit, which has its own query id: later acts belong to no answer. */
export function noteSponsored(hit) {
  if (!mayRemember()) return;
  remember("click", hit.product.id);
  push({ kind: "click", product_id: hit.product.id, query_id: hit.query_id, position: hit.place, event_id: randomName() });
}

/** Records the answer of a hit before an act on it, and remembers the answer for the product's later acts. */
export function noteReached(answer, hit, place) {
  if (!mayRemember()) return;
  noteShown(answer);
  rememberOrigin(hit.product.id, { query_id: answer.query_id, query: answer.query.slice(0, MAX_QUERY), position: place });
}

/** Marks an answer as recorded by the server. */
export function recordSearch(answer) {
  recorded.add(answer.query_id);
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
  waiting.push(events.map((event) => ({ ...event, ...names(), time: timestamp() })));
  waiting = waiting.slice(-MAX_WAITING);
  if (!timer) timer = setTimeout(send, SOON_MS);
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
