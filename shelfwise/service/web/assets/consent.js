// The request for consent to recording, and the change of the decision.

import { el } from "./dom.js";
import { requestsPrivacy, choice, choose } from "./visitor.js";
import { announce } from "./announce.js";
import { t } from "./words.js";

/** Asks for consent unless it was decided; `chosen` is called after the decision. */
export function askConsent(chosen) {
  document.getElementById("consent")?.remove();
  if (choice()) return;
  ask(chosen, false);
}

/** Asks again, or announces that the browser requests privacy. */
export function askAgain(chosen) {
  if (requestsPrivacy()) return announce(t("privacy asked"));
  document.getElementById("consent")?.remove();
  return ask(chosen, true);
}

function ask(chosen, takesFocus) {
  const answer = (agreed) => () => {
    choose(agreed);
    banner.remove();
    chosen();
    document.getElementById("view-title")?.focus({ preventScroll: true });
  };
  const yes = el("button", { type: "button", class: "primary", text: t("consent yes"), onclick: answer(true) });
  const no = el("button", { type: "button", class: "primary plain", text: t("consent no"), onclick: answer(false) });
  const banner = el("section", { id: "consent", "aria-labelledby": "consent-title" },
    el("div", {}, el("h2", { id: "consent-title", tabindex: "-1", text: t("consent title") }), el("p", { text: t("consent") })),
    el("div", { class: "answers" }, no, yes));
  // Placed above the products in the page, so that it covers none.
  document.getElementById("view").before(banner);
  if (takesFocus) banner.querySelector("h2").focus();
}
