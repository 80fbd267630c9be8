// What the visitor did, sent to the server in small batches; without consent nothing is.

import { call } from "./api.js";
import { timestamp } from "./clock.js";
import { randomName } from "./storage.js";
import { mayRemember, names, origin, remember, rememberOrigin } from "./visitor.js";

const SOON_MS = 250;
const AT_ONCE = 100;
const MOST_WAITING = 1000;
const MOST_TRIES = 5;
const MOST_QUERY = 1000;
const HISTORY = new Set(["click", "consultation", "cart", "purchase"]);

let waiting = [];
let timer = 0;
let tries = 0;
const recorded = new Set();

/** One act on a product, with the search that it came of. */
export function note(kind, productId, { quantity } = {}) {
  if (!mayRemember()) return;
  if (HISTORY.has(kind)) remember(kind, productId);
  push({ kind, product_id: productId, quantity, ...origin(productId), event_id: randomName() });
}

/** A click on a hit. */
export function noteClick(answer, hit, place) {
  noteReached(answer, hit, place);
  note("click", hit.product.id);
}

/** A click on a sponsored hit, of a query id of its own: what follows it is of no answer. */
export function noteSponsored(hit) {
  if (!mayRemember()) return;
  remember("click", hit.product.id);
  push({ kind: "click", product_id: hit.product.id, query_id: hit.query_id, position: hit.place, event_id: randomName() });
}

/** Something is about to be done with a hit: its answer is recorded first, so that it has something to be of. */
export function noteReached(answer, hit, place) {
  if (!mayRemember()) return;
  noteShown(answer);
  rememberOrigin(hit.product.id, { query_id: answer.query_id, query: answer.query.slice(0, MOST_QUERY), position: place });
}

/** An answer that the server has recorded by itself. */
export function recordSearch(answer) {
  recorded.add(answer.query_id);
}

/** An answer that was looked at, once: not each that was passed while typing. */
export function noteShown(answer) {
  if (!mayRemember() || recorded.has(answer.query_id) || answer.query.length > MOST_QUERY) return;
  recorded.add(answer.query_id);
  const { query_id, query } = answer;
  if (query.trim()) push({ kind: "query", query_id, query, results: answer.total, event_id: `${query_id}-query` });
  answer.hits.forEach((hit, index) => {
    const position = (answer.page - 1) * answer.size + index + 1;
    const event_id = `${query_id}-${position}`;
    push({ kind: "impression", product_id: hit.product.id, query_id, query, position, event_id });
  });
}

function push(event) {
  waiting.push({ ...event, ...names(), time: timestamp() });
  waiting = waiting.slice(-MOST_WAITING);
  if (!timer) timer = setTimeout(send, SOON_MS);
}

async function send() {
  clearTimeout(timer);
  timer = 0;
  if (!mayRemember()) waiting = [];
  if (!waiting.length) return;
  const batch = waiting.splice(0, AT_ONCE);
  try {
    await call("/v1/events", { method: "POST", body: { events: batch }, keepalive: true });
    tries = 0;
  } catch (error) {
    // Sent again it is counted once; what the server will never take is let go.
    if (!(error.status >= 400 && error.status < 500 && error.status !== 429) && tries < MOST_TRIES) {
      tries += 1;
      waiting.unshift(...batch);
      timer = setTimeout(send, 1000 * 2 ** tries);
      return;
    }
  }
  if (waiting.length && !timer) timer = setTimeout(send, 0);
}

addEventListener("pagehide", send);
document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && send());
