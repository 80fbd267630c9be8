// One thing of the store as a form, and as JSON for what a form cannot say well.

import { button, field, showFault } from "./admin-ui.js";
import { el, fill } from "./dom.js";

/**
 * An editor that begins with what is given: `value()` is what it says now; raises Error for JSON that is none.
 * `formOf(given)` makes the form: its element, its `value()`, and `faulty(error)`, the field that a refusal is about.
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
    /** Shows a server error at its field; returns whether it is about one. */
    showError(error) {
      shown = current.faulty?.(error) || null;
      if (!shown) return false;
      // At the field itself its name is not repeated.
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
