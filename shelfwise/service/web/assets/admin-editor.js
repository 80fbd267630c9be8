// An editor of one document as a form or, for values that the form lacks, as JSON.

import { button, field, showFault } from "./admin-ui.js";
import { el, fill } from "./dom.js";

/**
 * An editor with initial values; `value()` returns the current ones and raises Error for invalid JSON.
 * `formOf(given)` creates the form: its element, `value()`, and `faulty(error)`, the field that an error refers to.
 */
export function editor(given, formOf, label) {
  const element = el("div", { class: "rule" });
  let current = null;
  const asForm = (values) => {
    current = formOf(values);
    fill(element, current.element, el("div", { class: "buttons" }, button("As JSON", () => asJson(current.value()), "quiet")));
  };
  const asJson = (values) => {
    const area = field(label, { area: true, spellcheck: "false", value: JSON.stringify(values, null, 2) });
    current = { value: () => JSON.parse(area.input.value), faulty: () => area, isJson: true };
    const back = () => {
      try {
        asForm(current.value());
      } catch (error) {
        showFault(area, error.message);
      }
    };
    fill(element, area.element, el("div", { class: "buttons" }, button("As a form", back, "quiet")));
  };
  asForm(given);
  let shown = null;
  return {
    element,
    value: () => current.value(),
    /** Shows a server error at its field; returns whether it refers to one. */
    showError(error) {
      shown = current.faulty?.(error) || null;
      if (!shown) return false;
      // The name of the field is removed from the message.
      const from = current.isJson ? -1 : error.message.indexOf(`${error.field}: `);
      showFault(shown, from < 0 ? error.message : error.message.slice(from + error.field.length + 2));
      shown.input.focus();
      return true;
    },
    /** Removes the error. */
    clear() {
      if (shown) showFault(shown, "");
      shown = null;
    },
  };
}
