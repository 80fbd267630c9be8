// Calls the methods of the official search clients as a store's back end does, and prints what each of them gave.
// node write_side.cjs PACKAGES VERSION HOST PORT KEY PARENT
const [packages, version, host, port, key, parent] = process.argv.slice(2);
const install = require('module').createRequire(`${packages}/`);
const answers = {};

async function call(name, run) {
  try {
    answers[name] = { value: await run() };
  } catch (error) {
    answers[name] = { error: error.message, status: error.status };
  }
  return answers[name].value;
}

// A busy machine may take longer than the clients wait by default.
const patience = { connect: 60, read: 60, write: 60 };
const indexName = 'products';
const kettle = {
  objectID: 'kettle',
  name: 'Enamel kettle',
  _geoloc: [{ lat: 48.137, lng: 11.575 }, { lat: 52.5, lng: 13.4 }],
  brand: 'Torvald',
  categories: ['Kitchen', 'Kettles'],
  price: 49,
  stock: 3,
  cost: 20,
  tags: ['blue'],
  size: { width: 12, label: 'large' },
};
const pot = (number) => ({ objectID: `pot-${number}`, name: `Stock pot ${number}`, brand: 'Torvald', price: number });

async function newer() {
  const { algoliasearch } = install('algoliasearch');
  const hosts = [{ url: host, port: Number(port), protocol: 'http', accept: 'readWrite' }];
  const timeouts = Object.fromEntries(Object.entries(patience).map(([part, seconds]) => [part, 1000 * seconds]));
  const client = algoliasearch('shop', key, { hosts, timeouts });
  const read = (objectID, ...attributes) =>
    client.getObject({ indexName, objectID, attributesToRetrieve: attributes.length ? attributes : undefined });
  const ids = async (browseParams) => {
    const found = [];
    await client.browseObjects({ indexName, browseParams, aggregator: (part) => found.push(...part.hits) });
    return found.map((each) => each.objectID);
  };

  // A write is shown once its task is published.
  const store = {};
  for (const method of ['saveObject', 'addOrUpdateObject', 'partialUpdateObject', 'batch', 'deleteObject', 'deleteBy', 'clearObjects']) {
    store[method] = async (request) => {
      const response = await client[method](request);
      await client.waitForTask({ indexName, taskID: response.taskID });
      return response;
    };
  }

  // Objects
  await call('indexExists before', () => client.indexExists({ indexName: 'any' }));
  await call('saveObject', async () => ({
    ...(await store.saveObject({ indexName, body: kettle })),
    record: await read('kettle'),
  }));
  await call('saveObject of another index', () => store.saveObject({ indexName: 'articles', body: kettle }));
  await call('saveObject without a name', () => store.saveObject({ indexName, body: { objectID: 'nameless' } }));
  await call('saveObject of a wrong type', () =>
    store.saveObject({ indexName, body: { ...kettle, price: 'cheap' } }),
  );
  await call('saveObject to a view', () => store.saveObject({ indexName: 'products_price_asc', body: kettle }));
  await call('saveObjects', async () => ({
    responses: await client.saveObjects({
      indexName,
      objects: Array.from({ length: 5 }, (_, number) => pot(number)),
      batchSize: 2,
      waitForTasks: true,
    }),
    ids: await ids({ filters: 'brand:Torvald' }),
  }));
  await call('saveObject back', async () => {
    await store.saveObject({ indexName, body: await read('kettle') });
    return read('kettle');
  });
  await call('search by place', () =>
    client.searchSingleIndex({
      indexName,
      searchParams: { aroundLatLng: '52.52, 13.405', aroundRadius: 50000, aroundPrecision: 100, getRankingInfo: true },
    }),
  );
  await call('addOrUpdateObject', async () => ({
    ...(await store.addOrUpdateObject({ indexName, objectID: 'pot/9', body: { name: 'Lid', price: 2 } })),
    record: await read('pot/9'),
  }));
  await call('partialUpdateObject', async () => {
    const update = (attributesToUpdate, createIfNotExists, objectID = 'kettle') =>
      store.partialUpdateObject({ indexName, objectID, attributesToUpdate, createIfNotExists });
    await update({ stock: { _operation: 'Increment', value: 2 }, price: 45, size: { height: 30 } });
    await update({ tags: { _operation: 'Add', value: 'new' }, stock: { _operation: 'Decrement', value: 1 } });
    await update({ tags: { _operation: 'AddUnique', value: 'blue' }, sold: { _operation: 'Increment', value: 1 } });
    await update({ tags: { _operation: 'Remove', value: 'new' }, sold: { _operation: 'IncrementSet', value: 7 } });
    await update({ price: 1, sold: { _operation: 'IncrementFrom', value: 3 } });
    await update({ name: 'Ghost' }, false, 'ghost');
    await update({ name: 'Spout', stock: { _operation: 'Increment', value: 4 } }, true, 'spout');
    return { kettle: await read('kettle'), spout: await read('spout') };
  });
  await call('partialUpdateObject of nothing', () => read('ghost'));
  await call('partialUpdateObject by a wrong operation', () =>
    store.partialUpdateObject({
      indexName,
      objectID: 'kettle',
      attributesToUpdate: { brand: { _operation: 'Increment', value: 1 } },
    }),
  );
  await call('partialUpdateObjects', async () => {
    const objects = [{ objectID: 'pot-0', price: 10 }, { objectID: 'pot-100', price: 11 }];
    const responses = await client.partialUpdateObjects({
      indexName,
      objects,
      createIfNotExists: false,
      waitForTasks: true,
    });
    return { responses, price: (await read('pot-0', 'price')).price, ids: await ids({ filters: 'brand:Torvald' }) };
  });
  await call('getObject', () => read('kettle', 'name', 'price'));
  await call('getObjects', () =>
    client.getObjects({
      requests: [
        { indexName, objectID: 'kettle', attributesToRetrieve: ['brand'] },
        { indexName, objectID: 'ghost' },
      ],
    }),
  );
  await call('batch', async () => {
    const requests = [
      { action: 'addObject', body: { name: 'Whisk' } },
      { action: 'updateObject', body: { ...pot(1), price: 21 } },
      { action: 'partialUpdateObject', body: { objectID: 'pot-1', stock: { _operation: 'Increment', value: 1 } } },
      { action: 'partialUpdateObjectNoCreate', body: { objectID: 'ghost', price: 1 } },
      { action: 'deleteObject', body: { objectID: 'pot-4' } },
    ];
    const response = await store.batch({ indexName, batchWriteParams: { requests } });
    return { ...response, pot: await read('pot-1'), whisk: await read(response.objectIDs[0]) };
  });
  await call('batch with a fault', () =>
    store.batch({
      indexName,
      batchWriteParams: { requests: [{ action: 'addObject', body: pot(77) }, { action: 'paint', body: {} }] },
    }),
  );
  await call('multipleBatch', async () => {
    const requests = [{ action: 'addObject', indexName, body: pot(50) }];
    const response = await client.multipleBatch({ requests });
    await client.waitForTask({ indexName, taskID: response.taskID[indexName] });
    return { ...response, pot: await read('pot-50') };
  });
  await call('chunkedBatch', () =>
    client.chunkedBatch({ indexName, objects: [pot(51), pot(52)], batchSize: 1, waitForTasks: true }),
  );
  await call('deleteObject', async () => ({
    ...(await store.deleteObject({ indexName, objectID: 'pot-0' })),
    ids: await ids({ filters: 'brand:Torvald' }),
  }));
  await call('deleteObjects', async () => ({
    responses: await client.deleteObjects({ indexName, objectIDs: ['pot-1', 'ghost'], waitForTasks: true }),
    ids: await ids({ filters: 'brand:Torvald' }),
  }));
  await call('deleteBy', async () => ({
    ...(await store.deleteBy({ indexName, deleteByParams: { filters: 'brand:Torvald AND price > 50' } })),
    ids: await ids({ filters: 'brand:Torvald' }),
  }));
  await call('deleteBy without filters', () => store.deleteBy({ indexName, deleteByParams: {} }));
  await call('deleteBy by a place', () =>
    store.deleteBy({ indexName, deleteByParams: { filters: 'brand:Torvald', aroundLatLng: '1,2' } }),
  );
  await call('getTask', async () => {
    const { taskID } = await client.saveObject({ indexName, body: pot(3) });
    return client.getTask({ indexName, taskID });
  });
  await call('getTask of an unknown one', () => client.getTask({ indexName, taskID: 2 ** 40 }));
  await call('waitForTask', async () => {
    const { taskID } = await client.saveObject({ indexName, body: pot(2) });
    return client.waitForTask({ indexName, taskID });
  });
  await call('getAppTask', async () => {
    const { taskID } = await client.saveObject({ indexName, body: { ...pot(2), price: 3 } });
    return client.getAppTask({ taskID });
  });
  await call('waitForAppTask', async () => {
    const { taskID } = await client.saveObject({ indexName, body: { ...pot(2), price: 4 } });
    return client.waitForAppTask({ taskID });
  });
  await call('browse', () => client.browse({ indexName, browseParams: { hitsPerPage: 2, filters: 'brand:Torvald' } }));
  await call('browse by its cursor', async () =>
    client.browse({ indexName, browseParams: { cursor: answers.browse.value.cursor } }),
  );
  await call('browse by a wrong cursor', () => client.browse({ indexName, browseParams: { cursor: 'AAAA' } }));
  await call('browse a query', () => client.browse({ indexName, browseParams: { query: 'enamel kettle', hitsPerPage: 3 } }));
  await call('browseObjects', async () => {
    const all = await ids({ hitsPerPage: 250 });
    return { count: all.length, distinct: new Set(all).size, isSorted: all.every((id, at) => !at || all[at - 1] < id) };
  });

  // Settings
  await call('setSettings', () =>
    client.setSettings({
      indexName,
      indexSettings: {
        searchableAttributes: ['name', 'brand,categories', 'unordered(size.label)'],
        attributesForFaceting: ['searchable(brand)', 'filterOnly(stock)'],
        customRanking: ['desc(rating)', 'asc(price)', 'desc(nosuch)'],
        typoTolerance: false,
        disableTypoToleranceOnWords: ['torvald'],
        unretrievableAttributes: ['cost'],
        distinct: true,
        attributeForDistinct: 'brand',
        hitsPerPage: 7,
        replicas: ['products_price_asc'],
        ignorePlurals: true,
        minWordSizefor1Typo: 4,
      },
    }),
  );
  await call('getSettings', () => client.getSettings({ indexName }));
  await call('search by the settings', () =>
    client.searchSingleIndex({ indexName, searchParams: { query: 'stock pot', facets: ['*'] } }),
  );
  await call('search a replica', async () => {
    await client.setSettings({ indexName, indexSettings: { replicas: ['cheapest'] } });
    await client.setSettings({ indexName: 'cheapest', indexSettings: { ranking: ['asc(price)', 'typo', 'custom'], hitsPerPage: 3 } });
    const found = await client.searchSingleIndex({ indexName: 'cheapest', searchParams: { distinct: false } });
    return found.hits.map((each) => each.price);
  });
  await call('saveObject to a replica', () => client.saveObject({ indexName: 'cheapest', body: kettle }));
  await call('setSettings of a wrong type', () =>
    client.setSettings({ indexName, indexSettings: { hitsPerPage: 'many' } }),
  );
  await call('setSettings back', async () => {
    const indexSettings = { distinct: null, hitsPerPage: null, customRanking: null, searchableAttributes: null, replicas: [] };
    await client.setSettings({ indexName, indexSettings: { ...indexSettings, typoTolerance: true } });
    return client.getSettings({ indexName });
  });
  await call('indexExists', async () => [
    await client.indexExists({ indexName }),
    await client.indexExists({ indexName: 'articles' }),
  ]);

  // Keys
  await call('generateSecuredApiKey', async () => {
    const restrictions = {
      filters: 'brand:Torvald',
      restrictIndices: ['products*'],
      validUntil: Math.round(Date.now() / 1000) + 3600,
      searchParams: { hitsPerPage: 2 },
    };
    const secured = client.generateSecuredApiKey({ parentApiKey: parent, restrictions });
    const shopper = algoliasearch('shop', secured, { hosts, timeouts });
    const { results } = await shopper.search({ requests: [{ indexName, query: '', hitsPerPage: 50, facets: ['brand'] }] });
    return { brands: Object.keys(results[0].facets.brand), count: results[0].hits.length };
  });
  // Searches, and the whole index
  await call('search', () => client.search({ requests: [{ indexName, query: 'kettle' }] }));
  await call('searchForHits', () => client.searchForHits({ requests: [{ indexName, query: 'kettle' }] }));
  await call('searchForFacets', () =>
    client.searchForFacets({ requests: [{ type: 'facet', indexName, facet: 'brand', facetQuery: 'torv' }] }),
  );
  await call('searchForFacetValues', () =>
    client.searchForFacetValues({ indexName, facetName: 'brand', searchForFacetValuesRequest: { facetQuery: 'torv' } }),
  );
  await call('searchSingleIndex', () => client.searchSingleIndex({ indexName, searchParams: { query: 'kettle' } }));
  await call('replaceAllObjects', () => client.replaceAllObjects({ indexName, objects: [pot(1)] }));
  await call('saveRule', () => client.saveRule({ indexName, objectID: 'r', rule: { objectID: 'r', consequence: {} } }));
  await call('after replaceAllObjects', () => ids({}));
  await call('clearObjects', async () => ({ ...(await store.clearObjects({ indexName })), ids: await ids({}) }));
  await call('an unknown method', () => client.listClusters());
  await call('another unknown method', () => client.customDelete({ path: '1/security/sources' }));
  await call('customGet', () => client.customGet({ path: `1/indexes/${indexName}/settings` }));
}

async function older() {
  const algoliasearch = install('algoliasearch-v4');
  const client = algoliasearch('shop', key, { hosts: [{ url: `${host}:${port}`, protocol: 'http' }], timeouts: patience });
  const index = client.initIndex(indexName);
  const ids = async (options = {}) => {
    const found = [];
    await index.browseObjects({ ...options, batch: (part) => found.push(...part) });
    return found.map((each) => each.objectID);
  };
  await call('saveObject', () => index.saveObject(kettle).wait());
  await call('saveObjects', async () => ({
    ...(await index.saveObjects([pot(1), { name: 'Whisk' }], { autoGenerateObjectIDIfNotExist: true }).wait()),
  }));
  await call('partialUpdateObject', async () => {
    await index.partialUpdateObject({ objectID: 'kettle', stock: { _operation: 'Increment', value: 2 } }).wait();
    return index.getObject('kettle', { attributesToRetrieve: ['stock'] });
  });
  await call('partialUpdateObjects', () => index.partialUpdateObjects([{ objectID: 'pot-1', price: 5 }]).wait());
  await call('getObjects', () => index.getObjects(['kettle', 'ghost'], { attributesToRetrieve: ['name'] }));
  await call('deleteObject', () => index.deleteObject('pot-1').wait());
  await call('deleteObjects', () => index.deleteObjects(['pot-1', 'ghost']).wait());
  await call('deleteBy', () => index.deleteBy({ filters: 'name:nothing OR objectID:kettle' }).wait());
  await call('browseObjects', async () => (await ids({ hitsPerPage: 200 })).length);
  await call('setSettings', () => index.setSettings({ typoTolerance: 'min', hitsPerPage: 9 }).wait());
  await call('getSettings', () => index.getSettings());
  await call('generateSecuredApiKey', async () => {
    const restrictions = { restrictIndices: [indexName, 'other'], hitsPerPage: 1 };
    const shopper = algoliasearch('shop', client.generateSecuredApiKey(parent, restrictions), {
      hosts: [{ url: `${host}:${port}`, protocol: 'http' }],
      timeouts: patience,
    });
    return (await shopper.initIndex(indexName).search('', { hitsPerPage: 20 })).hits.length;
  });
  await call('exists', async () => [await index.exists(), await client.initIndex('articles').exists()]);
  await call('clearObjects', async () => ({ ...(await index.clearObjects().wait()), ids: await ids() }));
}

(version === 'v4' ? older : newer)().then(() => process.stdout.write(JSON.stringify(answers)));
