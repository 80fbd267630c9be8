// The results view: filters, notices, hits and pages. It is updated in place, so nothing jumps while typing.

import { SIZES, addressOf, isNarrowed, widened, withRange, withValues } from "./address.js";
import { api } from "./api.js";
import { cachedResults, search } from "./search-request.js";
import { errorNotice, grid, productAddress, skeletons, sponsoredStrip } from "./cards.js";
import { ICONS, announceCount, el, fill, icon, keepFocus, webUrl } from "./dom.js";
import { noteClick, noteReached, noteShown } from "./events.js";
import { activeFilters, chips, choices, facetGroups } from "./facets.js";
import { answerBox } from "./answers.js";
import { number, t } from "./words.js";

const LOOKED_AT_MS = 1500;
const WIDE = matchMedia("(min-width: 900px)");

/** The view of search results. `shop` has `facts` and `go(place)`; `show` sets the place. */
export function resultsView(shop) {
  const head = el("h1", { id: "view-title", tabindex: "-1", text: "\u00a0" });
  const sort = el("select", { id: "sort" });
  const summary = el("summary", {}, icon(ICONS.filter), el("span"));
  const groups = el("div", { class: "groups" });
  const done = el("button", { type: "button", class: "primary done" });
  const filters = el("details", { class: "filters" }, summary, groups, done);
  const chosen = el("div", { class: "chosen" });
  const narrowing = el("nav", { class: "narrowing", "aria-label": t("narrow") });
  const notices = el("div", { class: "notices" });
  const sponsored = el("div");
  const answered = answerBox();
  const hits = el("div", { class: "hits" }, skeletons(12));
  const size = el("select", { id: "size", "aria-label": t("per page") }, SIZES.map((each) => el("option", { value: each, text: t("hits per page", { size: number(each) }) })));
  const order = el("div", { class: "order" }, el("label", { for: "sort", text: t("sort") }), sort, size);
  const element = el("div", { class: "results" }, el("div", { class: "results-head" }, head, order),
    el("aside", { "aria-label": t("filters") }, filters), el("section", { class: "found", "aria-labelledby": "view-title" }, answered.element, chosen, narrowing, notices, sponsored, hits));
  let place = null;
  let request = new AbortController();
  let looking = 0;

  const fit = () => (filters.open = WIDE.matches);
  fit();
  WIDE.addEventListener("change", fit);
  done.addEventListener("click", () => {
    filters.open = false;
    head.focus();
  });
  sort.addEventListener("change", () => shop.go({ ...place, sort: sort.value, page: 1 }));
  size.addEventListener("change", () => shop.go({ ...place, size: Number(size.value), page: 1 }));

  const render = (found, isTyping) => {
    const { answer, facets } = found;
    const title = titleOf(place, answer);
    head.textContent = title;
    fill(sort, ["", ...sorts(shop.facts)].map((each) => el("option", { value: each, text: t(`sort.${each}`) })));
    sort.value = place.sort;
    size.value = String(place.size);
    const { length } = activeFilters(place);
    summary.lastChild.textContent = length ? t("filters chosen", { count: length }) : t("filters");
    done.textContent = t("show results", { count: answer.total });
    keepFocus(element, () => {
      fill(groups, facetGroups(place, facets, { fields: shop.facts.facets, isForeign: shop.isForeign }, shop.go));
      fill(chosen, chips(place, shop.go));
      fill(narrowing, choices(place, answer));
    });
    fill(notices, noticesOf(place, answer, shop));
    fill(sponsored, sponsoredStrip(answer.sponsored));
    fill(hits, answer.hits.length ? [hitGrid(place, answer, answer.hits), pager(place, answer)] : nothing(place), offers(place, answer), answer.hits.length ? null : popular(shop));
    element.removeAttribute("aria-busy");
    performance.mark("results", { detail: place.q });
    announceCount(title);
    clearTimeout(looking);
    answered.show(isTyping ? "" : place.q);
    if (isTyping) looking = setTimeout(() => noteShown(answer), LOOKED_AT_MS);
    else noteShown(answer);
  };

  return {
    element,
    title: () => head.textContent,
    /** Shows a place; resolves when it is shown. `isTyping` while more input may come, `isBack` for a place shown before. */
    async show(next, { isTyping = false, isBack = false } = {}) {
      place = next;
      request.abort();
      clearTimeout(looking);
      request = new AbortController();
      const { signal } = request;
      const address = addressOf(place);
      const before = isBack && cachedResults(address);
      if (before) return render(before, false);
      element.setAttribute("aria-busy", "true");
      try {
        // Categories in other languages must be known before they are shown.
        const [found] = await Promise.all([search(place, address, shop.facts, { signal, isTyping }), shop.start().catch(() => null)]);
        if (!signal.aborted) render(found, isTyping);
        return found.answer;
      } catch (error) {
        if (signal.aborted) return undefined;
        element.removeAttribute("aria-busy");
        head.textContent = t("results");
        for (const each of [chosen, narrowing, notices, sponsored]) fill(each);
        fill(hits, errorNotice(error, () => shop.go(place)));
        return undefined;
      }
    },
    leave() {
      request.abort();
      answered.leave();
      clearTimeout(looking);
      WIDE.removeEventListener("change", fit);
    },
  };
}

const BY_PICTURE = 24;
const SENT_BYTES = 500_000;
const SENT_SIDE = 640;

/** The picture in a file, scaled down for upload; the file itself if the browser cannot read it, so that the server reports why. */
async function smallPicture(file) {
  if (file.size <= SENT_BYTES) return file;
  try {
    const image = await createImageBitmap(file);
    const scale = Math.min(1, SENT_SIDE / Math.max(image.width, image.height));
    const canvas = new OffscreenCanvas(Math.ceil(image.width * scale), Math.ceil(image.height * scale));
    const paper = Object.assign(canvas.getContext("2d"), { fillStyle: "white", imageSmoothingQuality: "high" });
    paper.fillRect(0, 0, canvas.width, canvas.height);
    paper.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
  } catch {
    return file;
  }
}

/** The view of products that look like the picture in a file. */
export function pictureView(file) {
  const head = el("h1", { id: "view-title", tabindex: "-1", text: t("like your picture") });
  const found = el("div", { class: "hits" }, skeletons(12));
  const shown = el("img", { class: "your-picture", alt: t("your picture"), hidden: true });
  const reader = new FileReader();
  reader.addEventListener("load", () => (shown.src = reader.result));
  shown.addEventListener("load", () => (shown.hidden = false));
  reader.readAsDataURL(file);
  const element = el("div", { class: "by-picture" }, el("div", { class: "results-head" }, head), shown, found);
  const show = async () => {
    try {
      const hits = await api.byPicture(await smallPicture(file), BY_PICTURE);
      fill(found, grid(hits, { level: "h2" }));
      announceCount(head.textContent);
    } catch (error) {
      const isRefused = error.status === 400 || error.status === 413;
      if (isRefused) shown.remove();
      fill(found, errorNotice(error, isRefused ? () => document.querySelector("#search .camera").click() : show));
    }
  };
  return { element, show, title: () => head.textContent };
}

function offers(place, answer) {
  const text = t(answer.hits.length ? "nearest beside" : "nearest");
  return answer.nearest.length ? [el("p", { class: "notice", text }), hitGrid(place, answer, answer.nearest, answer.hits.length)] : [];
}

/** A grid of hits; `before` hits precede it on the page. */
function hitGrid(place, answer, hits, before = 0) {
  const first = (answer.page - 1) * answer.size + before + 1;
  const onchoose = (hit, index) => noteClick(answer, hit, first + index);
  const onadd = (hit, index) => noteReached(answer, hit, first + index);
  const more = (hit, index) => {
    if (!hit.siblings.length || !answer.total) return null;
    return el("a", { class: "more", href: productAddress(hit.product.id), onclick: () => onchoose(hit, index), text: t("variants of", { count: hit.group_size }) });
  };
  return grid(hits, { onchoose, onadd, more, level: "h2" });
}

function titleOf(place, answer) {
  const query = place.q.trim();
  if (!query) return place.category ? `${place.category.split(" > ").at(-1)} · ${t("found", { count: answer.total })}` : t("found", { count: answer.total });
  if (!answer.total) return t("found none", { query });
  return t(answer.doubtful ? "found like" : "found for", { count: answer.total, query });
}

function sorts(facts) {
  return facts.sorts.flatMap((field) => (field === "price" ? ["price", "-price"] : [`-${field}`]));
}

function noticesOf(place, answer, shop) {
  const made = [];
  const searchFor = (q) => el("a", { href: addressOf({ ...place, q, page: 1 }), text: q });
  if (answer.suggestion && answer.corrected) made.push([t("showing instead", { query: place.q.trim() }), " ", searchFor(answer.suggestion)]);
  else if (answer.suggestion) made.push([t("did you mean"), " ", searchFor(answer.suggestion), t("did you mean") === "Did you mean" ? "?" : "？"]);
  if (answer.doubtful) made.push([t("doubtful", { query: place.q.trim() })]);
  const everything = { ...place, allTypes: true, page: 1 };
  if (answer.product_type) made.push([t("one type", { type: answer.product_type }), " ", el("a", { href: addressOf(everything), text: t("all types") })]);
  const links = answer.preferred.flatMap((named) => preferenceLinks(named, place, shop.facts.facets));
  const first = place.sort ? "" : t("listed first", { values: answer.preferred.map(preferenceText).join(t("and comma")) });
  if (answer.preferred.length) made.push([first, ...(links.length ? [` ${t("show only")} `, ...links.slice(1)] : [])]);
  const page = answer.redirect ? webUrl(answer.redirect) : "";
  if (page) made.push([t("redirect"), " ", el("a", { href: page, text: answer.redirect })]);
  if (answer.degraded.length) made.push([t("degraded")]);
  return made.map((parts) => el("p", { class: "notice" }, parts));
}

/** The preference of a query as text: "up to 100", "Red". */
function preferenceText({ values, low, high }) {
  if (values.length) return values.slice(0, 3).join(" / ") + (values.length > 3 ? "…" : "");
  if (low === null) return t("at most", { high });
  return high === null ? t("at least", { low }) : `${low}–${high}`;
}

/** A link that shows only products with a preferred value; none if the field is not a facet of the store. */
function preferenceLinks(named, place, fields) {
  const field = fields.find((each) => named.field === each || named.field === `attributes.${each}`);
  if (!field) return [];
  const only = field === "price" ? withRange(place, field, [named.low, named.high]) : withValues(place, field, named.values);
  return [" · ", el("a", { href: addressOf(only), text: preferenceText(named) })];
}

function pager(place, answer) {
  const pages = Math.min(1000, Math.ceil(answer.total / answer.size));
  if (pages < 2) return null;
  const link = (name, page, path) => {
    const parts = path === ICONS.back ? [icon(path), t(name)] : [t(name), icon(path)];
    if (page < 1 || page > pages) return el("span", { class: "step off", "aria-hidden": "true" }, parts);
    return el("a", { class: "step", href: addressOf({ ...place, page }), rel: page < place.page ? "prev" : "next" }, parts);
  };
  return el("nav", { class: "pager", "aria-label": t("pages") }, link("previous", place.page - 1, ICONS.back),
    el("span", { text: t("page of", { page: place.page, pages }) }), link("next", place.page + 1, ICONS.next));
}

function nothing(place) {
  if (!isNarrowed(place)) return el("p", { class: "none", text: t("none advice") });
  return el("div", { class: "none" }, el("p", { text: t("none filtered") }), el("p", {}, el("a", { class: "primary", href: addressOf(widened(place)), text: t("without filters") })));
}

function popular(shop) {
  const made = el("div", { class: "none" });
  shop.popular().then((rows) => fill(made, rows));
  return made;
}
