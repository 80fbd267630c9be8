// Conversion between addresses and what the page shows, so that back, forward, reload and bookmarks work.

/** Address prefix of a store if there are several, such as "/stores/shop-zh"; else empty. */
export const BASE = /^\/stores\/[^/]+(?=\/)/.exec(globalThis.location?.pathname || "")?.[0] || "";
const MOST_VALUES = 50;
/** Page sizes that a visitor can choose; the first is the default. */
export const SIZES = [24, 48, 96];

/** Fields filtered by range, not by values. */
const RANGES = ["price", "rating"];
/** Prefix of fields that a search can propose even if they are no facets of the store. */
const ATTRIBUTE = "attributes.";

/** The place of an address: view, query, page, order and filters. `facets` are the store's facet fields. */
export function placeOf(address, facets) {
  const given = new URLSearchParams(address);
  const place = { view: "search", q: (given.get("q") || "").slice(0, 1000), page: 1, sort: given.get("sort") || "" };
  place.allTypes = given.get("types") === "all";
  const page = Number.parseInt(given.get("page") || "1", 10);
  place.page = page > 0 && page <= 1000 ? page : 1;
  place.category = given.get("category") || "";
  place.price = priceOf(given.get("price") || "");
  place.rating = /^[1-5]$/.test(given.get("rating")) ? Number(given.get("rating")) : 0;
  place.size = SIZES.find((size) => String(size) === given.get("size")) || SIZES[0];
  place.chosen = {};
  place.within = {};
  const others = [...given.keys()].filter((name) => name.startsWith(ATTRIBUTE)).slice(0, MOST_VALUES);
  for (const field of new Set([...facets, ...others])) {
    const values = RANGES.includes(field) ? [] : given.getAll(field).slice(0, MOST_VALUES);
    const ranges = values.map(rangeOf).filter(Boolean);
    if (ranges.length) [place.within[field]] = ranges;
    else if (values.length) place.chosen[field] = [...new Set(values)];
  }
  if (given.get("product")) return { ...place, view: "product", product: given.get("product") };
  if (given.get("show") === "basket") return { ...place, view: "basket" };
  const isSearch = place.q.trim() || place.sort || isNarrowed(place) || given.has("all");
  return isSearch ? place : { ...place, view: "home" };
}

/** The address of a place. */
export function addressOf(place) {
  const parameters = new URLSearchParams();
  if (place.view === "product") return `${BASE}/?${new URLSearchParams({ product: place.product })}`;
  if (place.view === "basket") return `${BASE}/?show=basket`;
  if (place.q) parameters.set("q", place.q);
  if (place.category) parameters.set("category", place.category);
  for (const [field, values] of Object.entries(place.chosen || {})) values.forEach((value) => parameters.append(field, value));
  for (const [field, [low, high]] of Object.entries(place.within || {})) parameters.set(field, `${low ?? ""}..${high ?? ""}`);
  const [low, high] = place.price || [];
  if (isNumber(low) || isNumber(high)) parameters.set("price", `${low ?? ""}-${high ?? ""}`);
  if (place.rating) parameters.set("rating", String(place.rating));
  if (place.sort) parameters.set("sort", place.sort);
  if (place.sort && place.allTypes) parameters.set("types", "all");
  if (place.view === "search" && ![...parameters].length) parameters.set("all", "1");
  if (place.size > SIZES[0]) parameters.set("size", String(place.size));
  if (place.page > 1) parameters.set("page", String(place.page));
  const text = parameters.toString();
  return text ? `${BASE}/?${text}` : `${BASE}/`;
}

export function isNarrowed(place) {
  return Boolean(place.category || place.price.some(isNumber) || place.rating || Object.keys({ ...place.chosen, ...place.within }).length);
}

/** The same search without filters. */
export function widened(place) {
  return { ...place, category: "", price: [null, null], rating: 0, chosen: {}, within: {}, page: 1 };
}

/** The fields by which a place filters, except the category. */
export function filteredFields(place) {
  const ranges = [place.price.some(isNumber) && "price", place.rating && "rating"].filter(Boolean);
  return [...Object.keys(place.chosen), ...ranges];
}

/** The filters as an expression of the API; `without` omits one field, to count its other values. */
export function filtersOf(place, without = "") {
  const parts = [];
  if (place.category) parts.push(`category = ${quoted(place.category)}`);
  const [low, high] = without === "price" ? [] : place.price;
  if (place.rating && without !== "rating") parts.push(`rating >= ${place.rating}`);
  if (isNumber(low)) parts.push(`price >= ${low}`);
  if (isNumber(high)) parts.push(`price <= ${high}`);
  for (const [field, [from, to]] of Object.entries(place.within)) {
    if (from !== null) parts.push(`${quoted(field)} >= ${from}`);
    if (to !== null) parts.push(`${quoted(field)} < ${to}`);
  }
  for (const [field, values] of Object.entries(place.chosen)) {
    if (field !== without) parts.push(`${quoted(field)} IN (${values.map(quoted).join(", ")})`);
  }
  return parts.join(" AND ");
}

/** A value quoted for a filter expression. */
export function quoted(text) {
  return `"${text.replace(/[\\"]/g, "\\$&")}"`;
}

function priceOf(text) {
  const found = /^(\d{1,9}(?:\.\d{1,4})?)?-(\d{1,9}(?:\.\d{1,4})?)?$/.exec(text);
  return found ? [found[1], found[2]].map((part) => (part === undefined ? null : Number(part))) : [null, null];
}

/** The bounds of a half-open range of numbers such as "12..20"; null for other texts. */
function rangeOf(text) {
  const found = /^(-?\d{1,12}(?:\.\d{1,6})?)?\.\.(-?\d{1,12}(?:\.\d{1,6})?)?$/.exec(text);
  return found && (found[1] || found[2]) ? [found[1], found[2]].map((part) => (part === undefined ? null : Number(part))) : null;
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}
