// What is shown where an answer did not come.

import { el } from "./dom.js";
import { t } from "./words.js";

/** A notice with what to do; `again` tries once more. */
export function trouble(error, again) {
  let text = t("out of reach");
  if (error.status === 401 || error.status === 403) text = t("needs key");
  else if (error.status) text = t("refused", { message: error.message });
  return el("div", { class: "none", role: "alert" }, el("p", { text }),
    el("p", {}, el("button", { type: "button", class: "primary", text: t("retry"), onclick: again })));
}
