// The time by the server's clock: a browser's own may be minutes or years off, and events are put in order by it.

const PATIENCE_MS = 3000;
const TRUSTED_MS = 3000;
let off = 0;

/** Learns from an answer that was asked for at `began`, by the browser's clock. A header tells whole seconds, so what is
 * known stays unless it is plainly wrong: times never jump back for a fraction. */
export function hearTime(answer, began) {
  const took = Date.now() - began;
  const seen = Date.parse(answer.headers.get("date") || "") - (began + took / 2);
  if (took >= 0 && took < PATIENCE_MS && Math.abs(seen - off) > TRUSTED_MS) off = seen;
}

/** Now, as events tell it. */
export function timestamp() {
  return new Date(Date.now() + off).toISOString();
}
