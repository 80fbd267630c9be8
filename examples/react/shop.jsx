// A storefront on InstantSearch for React. Only the hosts of the client tell it from one on Algolia.
import { liteClient } from 'algoliasearch/lite';
import React from 'react';
import { createRoot } from 'react-dom/client';
import {
  ClearRefinements,
  Configure,
  CurrentRefinements,
  Highlight,
  Hits,
  InstantSearch,
  Pagination,
  RangeInput,
  RefinementList,
  SearchBox,
  SortBy,
  Stats,
} from 'react-instantsearch';
import insightsClient from 'search-insights';

const parameters = new URLSearchParams(location.search);
const service = new URL(parameters.get('service') ?? 'http://127.0.0.1:8080');
const protocol = service.protocol.replace(':', '');
const searchClient = liteClient('shop', parameters.get('key') ?? 'none', {
  hosts: [
    {
      url: service.hostname,
      port: Number(service.port || (protocol === 'https' ? 443 : 80)),
      protocol,
      accept: 'readWrite',
    },
  ],
  // The defaults are two seconds, after which the client asks its next host: there is none.
  timeouts: { connect: 10_000, read: 10_000, write: 30_000 },
});

function Product({ hit, sendEvent }) {
  return (
    <article data-id={hit.objectID}>
      {hit.image && <img src={hit.image} alt="" width="120" height="120" loading="lazy" />}
      <h2>
        <Highlight attribute="name" hit={hit} />
      </h2>
      <p>
        {hit.brand} {hit.price !== undefined && <b>{hit.price.toFixed(2)}</b>}
      </p>
      <button onClick={() => sendEvent('click', hit, 'Product Clicked')}>Choose</button>
    </article>
  );
}

createRoot(document.getElementById('shop')).render(
  <InstantSearch
    indexName="products"
    searchClient={searchClient}
    insights={{ insightsClient, insightsInitParams: { host: service.origin, useCookie: true } }}
  >
    <Configure hitsPerPage={12} />
    <SearchBox placeholder="Search products" />
    <Stats />
    <SortBy
      items={[
        { label: 'Best match', value: 'products' },
        { label: 'Cheapest first', value: 'products_price_asc' },
      ]}
    />
    <CurrentRefinements />
    <ClearRefinements />
    <RefinementList attribute="brand" />
    <RangeInput attribute="price" />
    <Hits hitComponent={Product} />
    <Pagination />
  </InstantSearch>,
);
