// The notice of a failed request.

import { el } from "./dom.js";
import { t } from "./words.js";

/** A notice with advice; `again` retries. */
export function errorNotice(error, again) {
  let text = t("out of reach");
  if (error.status === 401 || error.status === 403) text = t("needs key");
  else if (error.status) text = t("refused", { message: error.message });
  return el("div", { class: "none", role: "alert" }, el("p", { text }),
    el("p", {}, el("button", { type: "button", class: "primary", text: t("retry"), onclick: again })));
}
