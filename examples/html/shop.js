// A storefront without a library: GET /v1/search for each change, and POST /v1/events for each chosen product.
const SIZE = 12;
const parameters = new URLSearchParams(location.search);
const service = parameters.get('service') ?? 'http://127.0.0.1:8080';
const key = parameters.get('key');
const headers = key ? { 'X-API-Key': key } : {};
// An id that ends with the page. A shop uses its own, once the shopper has consented.
const session = parameters.get('session') ?? '';
const state = { q: '', brands: new Set(), page: 1 };
const find = (selector) => document.querySelector(selector);
let latest = 0;

async function search() {
  const number = ++latest;
  const quoted = [...state.brands].map((brand) => JSON.stringify(brand));
  const asked = new URLSearchParams({ q: state.q, size: SIZE, page: state.page, facets: 'brand', prefix: true });
  if (quoted.length) asked.set('filters', `brand IN (${quoted.join(', ')})`);
  if (session) asked.set('session', session);
  const unreachable = { error: { message: `${service} does not respond, or does not allow this page (service.cors_origins)` } };
  const response = await fetch(`${service}/v1/search?${asked}`, { headers }).catch(() => ({ ok: false, json: () => unreachable }));
  const answer = await response.json();
  // A slower answer to an earlier query is not shown.
  if (number !== latest) return;
  if (response.ok) return show(answer);
  find('#total').textContent = answer.error.message;
  find('#hits').replaceChildren();
  find('#back').disabled = find('#next').disabled = true;
}

function show({ hits, total, facets, query_id, page }) {
  const pages = Math.max(1, Math.ceil(total / SIZE));
  find('#total').textContent = `${total} products`;
  find('#page').textContent = `${page} of ${pages}`;
  find('#back').disabled = page <= 1;
  find('#next').disabled = page >= pages;
  find('#hits').replaceChildren(...hits.map((hit, place) => item(hit.product, query_id, (page - 1) * SIZE + place + 1)));
  const values = facets.brand.counts.slice(0, 10).map(({ value, count }) => choice(value, count));
  find('#brands').replaceChildren(find('#brands legend'), ...values);
}

function item(product, queryId, position) {
  const row = document.createElement('li');
  row.dataset.id = product.id;
  const title = document.createElement('button');
  title.textContent = product.title;
  title.onclick = () => recordClick(product.id, queryId, position);
  row.append(title);
  if (product.price !== null) row.append(` ${product.price.toFixed(2)} ${product.currency}`);
  return row;
}

function choice(brand, count) {
  const label = document.createElement('label');
  const box = Object.assign(document.createElement('input'), { type: 'checkbox', checked: state.brands.has(brand) });
  box.onchange = () => {
    if (box.checked) state.brands.add(brand);
    else state.brands.delete(brand);
    restart();
  };
  label.append(box, ` ${brand} (${count})`);
  return label;
}

function recordClick(productId, queryId, position) {
  const click = { kind: 'click', product_id: productId, query_id: queryId, position, session };
  const body = JSON.stringify({ events: [click] });
  if (session) fetch(`${service}/v1/events`, { method: 'POST', headers: { ...headers, 'Content-Type': 'application/json' }, body });
}

function restart() {
  state.page = 1;
  search();
}

function turn(pages) {
  state.page += pages;
  search();
}

find('form').onsubmit = (event) => event.preventDefault();
find('input').oninput = (event) => {
  state.q = event.target.value;
  restart();
};
find('#back').onclick = () => turn(-1);
find('#next').onclick = () => turn(1);
search();
