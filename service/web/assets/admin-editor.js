// One thing of the store as a form, and as JSON for what a form cannot say well.

import { button, field, tellFault } from "./admin-ui.js";
import { el, fill } from "./dom.js";

/**
 * An editor that begins with what is given: `value()` is what it says now; raises Error for JSON that is none.
 * `formOf(given)` makes the form: its element, its `value()`, and `faulty(error)`, the field that a refusal is about.
 */
export function editor(given, formOf, label) {
  const element = el("div", { class: "rule" });
  let current = null;
  const asForm = (said) => {
    current = formOf(said);
    fill(element, current.element, el("div", { class: "buttons" }, button("As JSON", () => asJson(current.value()), "quiet")));
  };
  const asJson = (said) => {
    const area = field(label, { area: true, spellcheck: "false", value: JSON.stringify(said, null, 2) });
    current = { value: () => JSON.parse(area.input.value), faulty: () => area, isJson: true };
    const back = () => {
      try {
        asForm(current.value());
      } catch (error) {
        tellFault(area, error.message);
      }
    };
    fill(element, area.element, el("div", { class: "buttons" }, button("As a form", back, "quiet")));
  };
  asForm(given);
  let told = null;
  return {
    element,
    value: () => current.value(),
    /** Says beside its field what the server refused; whether it is about one. */
    tell(error) {
      told = current.faulty?.(error) || null;
      if (!told) return false;
      // Beside the field itself nobody has to be told which one it is.
      const from = current.isJson ? -1 : error.message.indexOf(`${error.field}: `);
      tellFault(told, from < 0 ? error.message : error.message.slice(from + error.field.length + 2));
      told.input.focus();
      return true;
    },
    /** Takes back what was said. */
    clear() {
      if (told) tellFault(told, "");
      told = null;
    },
  };
}
