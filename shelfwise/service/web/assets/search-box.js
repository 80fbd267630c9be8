// The search field with suggestions below it: a combobox with a listbox, as in the ARIA practices.

import { api } from "./api.js";
import { ICONS, el, fill, icon, marked } from "./dom.js";
import { mark } from "./picture.js";
import { forgetSearches, recentSearches, rememberSearch } from "./visitor.js";
import { money, t } from "./words.js";

const PAUSE_MS = 90;

/** Adds suggestions to the field of a form. Callbacks in `on`: `typed(text)` while typing, `submitted(text)` on submit,
 * `chosen(option)` for a category, brand or product. */
export function searchBox(form, on) {
  const field = form.querySelector("input");
  const list = form.querySelector("[role=listbox]");
  const clear = form.querySelector(".clear");
  let options = [];
  let active = -1;
  let pause = 0;
  let request = new AbortController();

  const close = () => {
    request.abort();
    list.hidden = true;
    field.setAttribute("aria-expanded", "false");
    activate(-1);
  };
  const activate = (index) => {
    active = index;
    options.forEach(({ element }, at) => element.setAttribute("aria-selected", String(at === index)));
    if (index < 0) field.removeAttribute("aria-activedescendant");
    else {
      field.setAttribute("aria-activedescendant", options[index].element.id);
      options[index].element.scrollIntoView({ block: "nearest" });
    }
  };
  const choose = (option) => {
    close();
    clearTimeout(pause);
    if (option.kind === "forget") forgetSearches();
    else if (option.text !== undefined) {
      field.value = option.text;
      submit();
    } else on.chosen(option);
  };
  const submit = () => {
    shown();
    rememberSearch(field.value);
    on.submitted(field.value);
  };
  const shown = () => (clear.hidden = !field.value);
  const suggest = async (text) => {
    request.abort();
    const recent = text.trim() ? [] : recentSearches();
    request = new AbortController();
    const { signal } = request;
    try {
      const found = await api.suggest(text, signal);
      if (signal.aborted || document.activeElement !== field) return;
      options = optionsOf(found, recent);
      options.forEach((option, at) => {
        option.element.id = `option-${at}`;
        option.element.addEventListener("pointerdown", (event) => event.preventDefault());
        option.element.addEventListener("click", () => choose(option));
      });
      fill(list, groups(options, Boolean(text.trim())));
      list.hidden = !options.length;
      field.setAttribute("aria-expanded", String(options.length > 0));
      activate(-1);
    } catch {
      if (!signal.aborted) close();
    }
  };

  field.addEventListener("input", (event) => {
    shown();
    if (event.isComposing) return;
    activate(-1);
    clearTimeout(pause);
    pause = setTimeout(() => {
      if (active < 0) suggest(field.value);
      on.typed(field.value);
    }, PAUSE_MS);
  });
  // Intermediate states of an input method are not searched for, only its result.
  field.addEventListener("compositionend", () => field.dispatchEvent(new Event("input")));
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const isOpen = !list.hidden;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!isOpen) return void suggest(field.value);
      request.abort(); // the list must not change while it is navigated
      const step = event.key === "ArrowDown" ? 1 : -1;
      // Beyond either end of the list is the field itself.
      activate(((active + 1 + step + options.length + 1) % (options.length + 1)) - 1);
    } else if (event.key === "Enter" && isOpen && active >= 0) {
      event.preventDefault();
      choose(options[active]);
    } else if (event.key === "Escape") {
      if (isOpen) event.preventDefault();
      close();
    } else if (event.key === "Tab") close();
  });
  field.addEventListener("blur", close);
  field.addEventListener("focus", () => field.value.trim() || suggest(""));
  document.addEventListener("keydown", (event) => {
    const isWritten = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key !== "/" || isWritten || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(pause);
    close();
    submit();
  });
  clear.addEventListener("click", () => {
    field.value = "";
    shown();
    close();
    on.typed("");
    field.focus();
  });
  return {
    close,
    set(text) {
      if (document.activeElement !== field || field.value.trim() !== text) field.value = text;
      shown();
    },
  };
}

function optionsOf(found, recent) {
  const made = [];
  const option = (kind, content, more) => {
    made.push({ kind, element: el("div", { role: "option", "aria-selected": "false", class: kind }, content), ...more });
  };
  recent.forEach((text) => option("recent", [icon(ICONS.clock), el("span", { text })], { text }));
  if (recent.length) option("forget", [icon(ICONS.close), el("span", { text: t("forget searches") })], {});
  found.queries.slice(0, 5).forEach(({ text, spans }) =>
    option("query", [icon(ICONS.search), el("span", {}, marked(text, spans))], { text }));
  found.categories.slice(0, 2).forEach(({ path, text, spans }) =>
    option("category", [icon(ICONS.folder), el("span", {}, marked(text, spans))], { path: path.join(" > ") }));
  found.brands.slice(0, 2).forEach(({ name, spans }) =>
    option("brand", [icon(ICONS.tag), el("span", {}, marked(name, spans))], { name }));
  found.products.slice(0, 3).forEach(({ product, spans }) =>
    option("product", [mark(product), el("span", {}, marked(product.title, spans)),
      el("small", { text: product.price === null ? "" : money(product.price, product.currency) })], { product }));
  return made;
}

const GROUPS = { recent: "recent searches", query: "suggested queries", category: "suggested categories", brand: "suggested brands", product: "suggested products" };

function groups(options, isTyped) {
  return Object.entries(GROUPS).map(([kind, usual]) => {
    const name = kind === "query" && !isTyped ? "popular searches" : usual;
    const own = options.filter((option) => option.kind === kind || (kind === "recent" && option.kind === "forget")).map((option) => option.element);
    if (!own.length) return null;
    const head = el("div", { class: "head", "aria-hidden": "true", text: t(name) });
    return el("div", { role: "group", "aria-label": t(name) }, head, own);
  });
}
