// The store page: the current view and the navigation between views.

import { ALL, BASE, addressOf, placeOf } from "./address.js";
import { api, useKey } from "./api.js";
import { basketView } from "./basket-view.js";
import { count, whenChanged } from "./basket.js";
import { errorNotice } from "./cards.js";
import { announce } from "./announce.js";
import { el, fill, webUrl } from "./dom.js";
import { homeView, popularRows } from "./home.js";
import { productView } from "./product-view.js";
import { usePictures } from "./picture.js";
import { pictureView, resultsView } from "./results.js";
import { searchBox } from "./search-box.js";
import { isChoice, language, otherLanguages, speak, t, translate, useLook } from "./words.js";
import { choice, choose, requestsPrivacy } from "./visitor.js";

const main = document.getElementById("view");
let view = null;
let place = null;
let isTypingOn = false;
let box = null;
let start = null;
let roots = null;

const shop = { facts: { key: "", facets: [], sorts: [] }, go, start: whatThereIs, popular, isForeign };

/** Goes to a place and shows it. Consecutive typing is one history entry. */
function go(next, { isTyping = false } = {}) {
  const replaces = isTyping && isTypingOn;
  if (!replaces) history.replaceState({ ...history.state, top: scrollY }, "");
  history[replaces ? "replaceState" : "pushState"]({ inside: true }, "", addressOf(next));
  isTypingOn = isTyping;
  return show(next, { isTyping });
}

async function show(next, { isTyping = false, isBack = false, isFirst = false, top = 0 } = {}) {
  const stays = place && next.view === "search" && place.view === "search" && view;
  const keeps = stays || isTyping;
  place = next;
  if (!stays) {
    view?.leave();
    view = viewOf(place);
    fill(main, view.element);
  }
  if (!isTyping) box.set(place.view === "search" ? place.q : "");
  const shown = view.show(place, { isTyping, isBack: isBack && !isFirst });
  const own = view;
  if (!isBack && !keeps) scrollTo(0, 0);
  const answer = await shown;
  if (own !== view) return answer;
  document.title = [view.title(), t("store")].filter(Boolean).join(" · ");
  if (isBack) scrollTo(0, top);
  else if (!stays && !isTyping) document.getElementById("view-title")?.focus({ preventScroll: true });
  return answer;
}

function viewOf({ view: name, product }) {
  if (name === "product") return productView(shop, product);
  if (name === "basket") return basketView();
  return name === "search" ? resultsView(shop) : homeView(shop);
}

/** The categories and the first products, without those in the page's other languages; requested once. The language is
 * empty if the store has no products in those. */
function whatThereIs() {
  start ||= firstProducts();
  start.catch(() => (start = null));
  return start;
}

async function firstProducts() {
  const whole = { q: "", size: 12, facets: ["category"], group: "variants" };
  const foreign = otherLanguages().map((each) => `NOT language = "${each}"`).join(" AND ");
  // The field language may be hidden from the key.
  const both = api.searches([whole, { ...whole, filters: foreign }]).catch(() => api.searches([whole]));
  const [all, own] = (await both).results;
  const shown = own?.total ? own : all;
  roots = new Set((shown.facets.category?.counts || []).map(({ value }) => value.split(" > ")[0]));
  const isMixed = own?.total && own.total < all.total;
  return { ...shown, total: all.total, language: isMixed ? language() : "" };
}

/** Whether a category has only products in another language of the page. */
function isForeign(category) {
  return roots !== null && !roots.has(category.split(" > ")[0]);
}

async function popular() {
  try {
    return popularRows(await whatThereIs());
  } catch {
    return [];
  }
}

function searched(text, options = {}) {
  const isSearch = place.view === "search";
  if (!text.trim() && !isSearch) return undefined;
  return go({ ...(isSearch ? place : ALL), q: text.slice(0, 1000), page: 1 }, options);
}

const on = {
  typed(text) {
    searched(text, { isTyping: true });
  },
  async submitted(text) {
    isTypingOn = false;
    document.querySelector("#search input").blur();
    const answer = await (text.trim() ? searched(text) : go(ALL));
    const page = answer?.redirect ? webUrl(answer.redirect) : "";
    if (page) location.assign(page);
  },
  selected: go,
};

/** Shows products that look like the picture in a file. The view has no address of its own. */
function showByPicture(file) {
  history.replaceState({ ...history.state, top: scrollY }, "");
  history.pushState({ inside: true }, "", `${BASE}/`);
  isTypingOn = false;
  view?.leave();
  place = { ...ALL, view: "picture" };
  view = pictureView(file);
  fill(main, view.element);
  box.set("");
  scrollTo(0, 0);
  document.title = [view.title(), t("store")].join(" · ");
  document.getElementById("view-title").focus({ preventScroll: true });
  return view.show();
}

/** Shows the button for search by picture if the store supports it. */
function askPictures() {
  const button = document.querySelector("#search .camera");
  const files = document.querySelector("#search .picture-file");
  button.hidden = !shop.facts.searches_pictures;
  document.getElementById("search").classList.toggle("with-camera", !button.hidden);
  button.addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    const [file] = files.files;
    files.value = "";
    if (file) showByPicture(file);
  });
}

function followLinks() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!link || !isPlain || event.defaultPrevented || link.target) return;
    const url = new URL(link.href);
    if (url.origin !== location.origin || url.pathname !== `${BASE}/` || link.getAttribute("href").startsWith("#")) return;
    event.preventDefault();
    go(placeOf(url.search, shop.facts.facets));
  });
  addEventListener("scrollend", () => history.replaceState({ ...history.state, top: scrollY }, ""));
  addEventListener("popstate", (event) => {
    isTypingOn = false;
    box.close();
    show(placeOf(location.search, shop.facts.facets), { isBack: true, top: event.state?.top || 0 });
  });
}

function tellBasket() {
  const link = document.getElementById("basket-link");
  link.setAttribute("aria-label", t("basket of", { count: count() }));
  link.querySelector(".count").textContent = count() || "";
}

function again() {
  translate();
  tellBasket();
  start = null;
  if (view) {
    view.leave();
    view = null;
    show(place.view === "picture" ? { ...ALL, view: "home" } : place, { isBack: true, top: scrollY });
  }
}

/** Asks for consent unless it was decided; if the visitor asks for the question (`isRequested`), also afterwards. */
function askConsent(isRequested = false) {
  if (isRequested && requestsPrivacy()) return announce(t("privacy asked"));
  document.getElementById("consent")?.remove();
  if (choice() && !isRequested) return undefined;
  const answer = (text, agreed, kind) => el("button", { type: "button", class: kind, text: t(text), onclick() {
    choose(agreed);
    banner.remove();
    again();
    document.getElementById("view-title")?.focus({ preventScroll: true });
  } });
  const banner = el("section", { id: "consent", "aria-labelledby": "consent-title" },
    el("div", {}, el("h2", { id: "consent-title", tabindex: "-1", text: t("consent title") }), el("p", { text: t("consent") })),
    el("div", { class: "answers" }, answer("consent no", false, "primary plain"), answer("consent yes", true, "primary")));
  // Placed above the products in the page, so that it covers none.
  document.getElementById("view").before(banner);
  return isRequested && banner.querySelector("h2").focus();
}

async function open() {
  history.scrollRestoration = "manual";
  whenChanged(tellBasket);
  document.getElementById("language").addEventListener("click", () => {
    speak(language() === "en" ? "zh" : "en");
    again();
    if (document.getElementById("consent")) askConsent();
  });
  document.getElementById("privacy").addEventListener("click", () => askConsent(true));
  try {
    shop.facts = await api.facts();
  } catch (error) {
    translate();
    return fill(main, errorNotice(error, () => location.reload()));
  }
  useLook(shop.facts.look, shop.facts.sorts.includes("price"));
  document.getElementById("language").hidden = !isChoice();
  document.querySelector(".home-link").classList.toggle("with-logo", shop.facts.look.has_logo);
  translate();
  tellBasket();
  useKey(shop.facts.key, async () => (await api.facts()).key);
  usePictures(shop.facts.pictures);
  box = searchBox(document.getElementById("search"), on);
  followLinks();
  askPictures();
  askConsent();
  // Text typed before the page was ready is kept.
  const field = document.querySelector("#search input");
  const isEarly = document.activeElement === field && field.value !== "";
  const first = placeOf(location.search, shop.facts.facets);
  await show(first, { isBack: true, isFirst: true, isTyping: isEarly, top: history.state?.top || 0 });
  if (isEarly && place === first) field.dispatchEvent(new Event("input"));
  return undefined;
}

open();
