// Conversion between addresses and what the page shows, so that back, forward, reload and bookmarks work.

/** Address prefix of a store if there are several, such as "/stores/shop-zh"; else empty. */
export const BASE = /^\/stores\/[^/]+(?=\/)/.exec(globalThis.location?.pathname || "")?.[0] || "";
const MAX_VALUES = 50;
/** Page sizes that a visitor can choose; the first is the default. */
export const SIZES = [24, 48, 96];

/** Fields filtered by a range of both ends, not by values. */
const RANGES = ["price", "rating"];
/** Prefix of fields that a search can propose even if they are no facets of the store. */
const ATTRIBUTE = "attributes.";

/** The place of all products: `filters` are the values of each field, or one range such as "12..20". */
export const ALL = { view: "search", q: "", filters: {}, sort: "", allTypes: false, size: SIZES[0], page: 1 };

/** A path with parameters; lists are repeated, empty values are omitted. */
export function withParameters(path, parameters) {
  const pairs = Object.entries(parameters).flatMap(([name, value]) => [value].flat().map((one) => [name, one ?? ""]));
  const query = new URLSearchParams(pairs.filter(([, value]) => value !== "")).toString();
  return query ? `${path}?${query}` : path;
}

/** The place of an address: view, query, page, order and filters. `facets` are the store's facet fields. */
export function placeOf(address, facets) {
  const parameters = new URLSearchParams(address);
  const text = (name) => parameters.get(name) || "";
  if (text("product")) return { ...ALL, view: "product", product: text("product") };
  if (text("show") === "basket") return { ...ALL, view: "basket" };
  const others = [...parameters.keys()].filter((name) => name.startsWith(ATTRIBUTE)).slice(0, MAX_VALUES);
  const fields = new Set(["category", ...RANGES, ...facets, ...others]);
  const place = {
    ...ALL, q: text("q").slice(0, 1000), filters: {}, sort: text("sort"), allTypes: text("types") === "all",
    size: SIZES.find((size) => String(size) === text("size")) || SIZES[0], page: Math.min(Math.max(Number.parseInt(text("page"), 10) || 1, 1), 1000),
  };
  for (const field of fields) {
    const values = [...new Set(parameters.getAll(field).slice(0, MAX_VALUES))].filter(Boolean);
    const range = values.find(rangeOf);
    if (range) place.filters[field] = [range];
    else if (values.length && !RANGES.includes(field)) place.filters[field] = field === "category" ? values.slice(0, 1) : values;
  }
  return isSearch(place) || parameters.has("all") ? place : { ...place, view: "home" };
}

/** The address of a place. */
export function addressOf({ view, product, ...place }) {
  if (view === "product") return withParameters(`${BASE}/`, { product });
  if (view === "basket") return `${BASE}/?show=basket`;
  const { q, filters, sort, allTypes, size, page } = place;
  return withParameters(`${BASE}/`, {
    q, ...filters, sort, types: sort && allTypes ? "all" : "", all: view === "search" && !isSearch(place) ? 1 : "",
    size: size > SIZES[0] ? size : "", page: page > 1 ? page : "",
  });
}

/** The address of a product's page. */
export function productAddress(id) {
  return addressOf({ view: "product", product: id });
}

function isSearch(place) {
  return Boolean(place.q.trim() || place.sort || isNarrowed(place));
}

export function isNarrowed({ filters }) {
  return Object.keys(filters).length > 0;
}

/** The same search with other values of a field, or without a filter for it if there are none. */
export function withValues(place, field, values) {
  const { [field]: _old, ...others } = place.filters;
  return { ...place, filters: values.length ? { ...others, [field]: values } : others, page: 1 };
}

/** The same search with another range of a field, or without a filter for it if the range has no bound. */
export function withRange(place, field, low, high) {
  return withValues(place, field, (low ?? high) === null ? [] : [`${low ?? ""}..${high ?? ""}`]);
}

/** The filters as an expression of the API; `without` omits one field, to count its other values. */
export function filtersOf({ filters }, without = "") {
  const parts = Object.entries(filters).filter(([field]) => field !== without).flatMap(([field, values]) => {
    const range = rangeOf(values[0]);
    if (!range) return `${quoted(field)} IN (${values.map(quoted).join(", ")})`;
    const [low, high] = range;
    return [low !== null && `${quoted(field)} >= ${low}`, high !== null && `${quoted(field)} ${RANGES.includes(field) ? "<=" : "<"} ${high}`].filter(Boolean);
  });
  return parts.join(" AND ");
}

/** A value quoted for a filter expression. */
export function quoted(text) {
  return `"${text.replace(/[\\"]/g, "\\$&")}"`;
}

/** The bounds of a range of numbers such as "12..20"; null for other texts. */
export function rangeOf(text) {
  const found = /^(-?\d{1,12}(?:\.\d{1,6})?)?\.\.(-?\d{1,12}(?:\.\d{1,6})?)?$/.exec(text);
  return found && (found[1] || found[2]) ? [found[1], found[2]].map((part) => (part === undefined ? null : Number(part))) : null;
}
