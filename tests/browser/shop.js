// An ordinary InstantSearch page. The address says the library, the host and the key; all else is as in any shop.
const said = new URLSearchParams(location.search);
const [host, port] = said.get('host').split(':');
const isOld = said.get('client') === 'v4';
// By default a request that takes two seconds fails for good, which a busy machine takes now and then.
const patience = { connect: 60, read: 60, write: 60 };
const searchClient = isOld
  ? algoliasearch('shop', said.get('key'), {
      hosts: [{ url: `${host}:${port}`, protocol: 'http' }],
      timeouts: patience,
    })
  : window['algoliasearch/lite'].liteClient('shop', said.get('key'), {
      hosts: [{ url: host, port: Number(port), protocol: 'http', accept: 'readWrite' }],
      timeouts: Object.fromEntries(Object.entries(patience).map(([part, seconds]) => [part, 1000 * seconds])),
    });

const search = instantsearch({
  indexName: 'products',
  searchClient,
  insights: {
    insightsInitParams: { host: `http://${host}:${port}`, useCookie: true },
  },
});
const { widgets } = instantsearch;
const hit = (each, { html, components, sendEvent }) => html`
  <article data-id="${each.objectID}" data-price="${each.price}">
    <h2>${components.Highlight({ attribute: 'name', hit: each })}</h2>
    <p>${components.Snippet({ attribute: 'description', hit: each })}</p>
    <button onClick=${() => sendEvent('click', each, 'Product Clicked')}>Choose</button>
    <button class="buy" onClick=${() =>
      sendEvent('conversion', each, 'Added To Cart', { eventSubtype: 'addToCart', objectData: [{ quantity: 2 }] })}>
      Buy
    </button>
  </article>
`;

search.addWidgets([
  widgets.searchBox({ container: '#searchbox' }),
  widgets.stats({ container: '#stats', templates: { text: ({ nbHits }) => String(nbHits) } }),
  widgets.sortBy({
    container: '#sort',
    items: [
      { label: 'Best', value: 'products' },
      { label: 'Cheapest', value: 'products_price_asc' },
    ],
  }),
  widgets.currentRefinements({ container: '#current' }),
  widgets.clearRefinements({ container: '#clear' }),
  widgets.hierarchicalMenu({
    container: '#menu',
    attributes: ['hierarchicalCategories.lvl0', 'hierarchicalCategories.lvl1', 'hierarchicalCategories.lvl2'],
  }),
  widgets.refinementList({ container: '#brand', attribute: 'brand', operator: 'or', searchable: true }),
  widgets.refinementList({ container: '#color', attribute: 'color', operator: 'and' }),
  widgets.rangeInput({ container: '#price', attribute: 'price' }),
  widgets.configure({ hitsPerPage: 8, attributesToSnippet: ['description:8'] }),
  widgets.hits({ container: '#hits', templates: { item: hit } }),
  widgets.pagination({ container: '#pages' }),
]);
search.addWidgets([
  widgets.index({ indexName: 'products_query_suggestions' }).addWidgets([
    widgets.configure({ hitsPerPage: 4 }),
    widgets.hits({
      container: '#suggestions',
      templates: {
        item: (each, { html, components }) => html`<i>${components.Highlight({ attribute: 'query', hit: each })}</i>`,
      },
    }),
  ]),
]);
if (!isOld) {
  const templates = { item: (each, { html }) => html`<b data-id="${each.objectID}">${each.name}</b>` };
  search.addWidgets([
    widgets.relatedProducts({ container: '#related', objectIDs: [said.get('product')], limit: 4, templates }),
    widgets.trendingItems({ container: '#trending', limit: 4, templates }),
  ]);
}
search.on('error', ({ error }) => (window.failed = String(error)));
search.start();
