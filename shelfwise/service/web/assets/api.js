// Client of this server's API.

import { BASE, quoted, withParameters } from "./address.js";

const MAX_KEPT_ALIVE = 60_000;
const TRUSTED_MS = 3000;
/** Milliseconds by which the server's clock is ahead: a browser's may be minutes or years off, and events are ordered by time. */
let off = 0;
let key = "";
let renew = async () => key;

/** The key that requests carry, empty for none; `renewal` gets another one when it is refused. */
export function useKey(text, renewal = renew) {
  key = text;
  renew = renewal;
}

/** An error response of the server, or of a proxy, which may have another format. */
class Refusal extends Error {
  constructor(status, text) {
    let fault = {};
    try {
      fault = JSON.parse(text).error ?? {};
    } catch {}
    super(fault.message || `status ${status}`);
    Object.assign(this, { status, code: fault.code || "", field: fault.field || "" });
  }
}

/** The current time for events. */
export function timestamp() {
  return new Date(Date.now() + off).toISOString();
}

/** The path for the page's index. */
function pathOf(path) {
  if (!BASE) return path;
  return path.startsWith("/v1/") ? path.replace("/v1/", BASE.replace("/stores/", "/v1/indexes/") + "/") : path.startsWith("/assets/") ? BASE + path : path;
}

/** The JSON of a response to a request with the parameters `query`; raises Refusal, or TypeError if the server cannot be reached. */
export async function call(path, { query = {}, method = "GET", body, file, signal, keepalive = false } = {}) {
  const headers = {};
  const sent = key;
  if (sent) headers["X-API-Key"] = sent;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (file) headers["Content-Type"] = "application/octet-stream";
  const content = body === undefined ? file : JSON.stringify(body);
  // Requests that outlive the page are limited to 64 KiB by browsers.
  const outlives = keepalive && new Blob([content ?? ""]).size < MAX_KEPT_ALIVE;
  const answer = await fetch(withParameters(pathOf(path), query), { method, headers, body: content, signal, keepalive: outlives });
  const ahead = Date.parse(answer.headers.get("date")) - Date.now();
  // The header has whole seconds: times do not jump back by fractions.
  if (Math.abs(ahead - off) > TRUSTED_MS) off = ahead;
  const text = await answer.text();
  if (answer.ok) return answer.headers.get("content-type")?.startsWith("application/json") ? JSON.parse(text) : text;
  if (answer.status === 401) {
    // The store's first key, or a new one, came after this page was opened.
    if (key === sent) key = await renew();
    if (key !== sent) return call(path, { query, method, body, file, signal, keepalive });
  }
  throw new Refusal(answer.status, text);
}

/** The path of a product; slashes in its id are not escaped. */
export function productPath(id) {
  return `/v1/products/${id.split("/").map(encodeURIComponent).join("/")}`;
}

/** The address of a product's picture on this server, by its number. */
export function sentPicture(id, number, width) {
  return withParameters(pathOf(`${productPath(id)}/pictures/${number}`), { width, key });
}

export const api = {
  facts: () => call("/assets/store.json"),
  searches: (searches, signal) => call("/v1/multi-search", { method: "POST", body: { searches }, signal }),
  answer: (body, signal) => call("/v1/answer", { method: "POST", body, signal }),
  /** Products that look most like the picture in a file. */
  byPicture: async (file, size) => (await call("/v1/search/picture", { query: { size }, method: "POST", file })).hits,
  suggest: (q, signal) => call("/v1/suggest", { query: { q, size: 6 }, signal }),
  /** A product with the ids of its siblings. */
  product: (id, signal) => call(productPath(id), { signal }),
  similar: (id, size) => call(`${productPath(id)}/similar`, { query: { size, sponsored: true } }),
  looksLike: async (id, size) => (await call(`${productPath(id)}/similar`, { query: { size, by: "looks" } })).hits,
  related: async (id, kind, size) => (await call(`${productPath(id)}/related`, { query: { kind, size } })).hits,
  recommend: async (history, size, language) => (await call("/v1/recommend", { method: "POST", body: { history, size, language } })).hits,
};

/** The products with these ids. */
export async function productsOf(ids, signal) {
  if (!ids.length) return [];
  const { results } = await api.searches([{ q: "", size: ids.length, filters: `id IN (${ids.map(quoted).join(", ")})` }], signal);
  return results[0].hits.map((hit) => hit.product);
}
